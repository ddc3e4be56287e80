"""Where the weights lie that recipes start from: in a run or in a folder. ``recipes.weights`` has what is done with them."""

from __future__ import annotations

from pathlib import Path

from archsearch.recipes.weights import Source, weights_beside
from archsearch.run import Run, artifacts_root, load_run
from archsearch.store import Artifacts, RunFolder


def weights_of_run(run: Run | str | Path) -> Source:
    """Finds artifacts of a run by their content."""
    found = run if isinstance(run, Run) else load_run(run)
    artifacts = Artifacts(artifacts_root(found.config, found.folder))
    refs = {ref.sha256: ref for record in found.state.jobs.values() for ref in record.artifacts.values()}

    def source(sha256: str) -> bytes | None:
        ref = refs.get(sha256)
        return None if ref is None or ref.key in found.state.collected else artifacts.load(ref)

    return source


def weights_in(folder: str | Path) -> Source:
    """Finds ``SHA256.safetensors`` in a folder, or whatever a run there has."""
    path = Path(folder)
    return weights_of_run(path) if RunFolder.at(path).started else weights_beside(path)
