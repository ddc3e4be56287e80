"""Following a run from outside: callbacks, TensorBoard, lines of JSON, TensorWatch's live stream."""

from archsearch.tracking.callback import Callback as Callback
from archsearch.tracking.callback import RunEnd as RunEnd
from archsearch.tracking.callback import RunStart as RunStart
from archsearch.tracking.callback import TrackedJob as TrackedJob
from archsearch.tracking.callback import TrackedPoint as TrackedPoint
from archsearch.tracking.news import About as About
from archsearch.tracking.section import TrackingSection as TrackingSection
from archsearch.tracking.tracker import tracked as tracked
