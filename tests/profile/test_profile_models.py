"""Which models are taken, and from whom; the work ``profile``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from profile_models import FLAWLESS, stand_in

from archsearch.arch import seed_architecture
from archsearch.jobs import Context, InputError, Interrupted, Job, Stage
from archsearch.profile import process, work
from archsearch.profile.measurement import Profile
from archsearch.profile.models import Model, read_model
from archsearch.profile.onnx_files import check_onnx
from archsearch.profile.work import profile

ARCH = seed_architecture((3, 8, 8), 10, cells=1, reductions=0, nodes=1, channels=4)


def test_an_architecture_of_a_file_and_a_function_by_its_name(tmp_path: Path):
    (tmp_path / "net.yaml").write_text(ARCH.to_yaml())
    (tmp_path / "net.json").write_text(json.dumps(ARCH.to_json()))
    from_yaml, from_json = read_model(str(tmp_path / "net.yaml")), read_model(str(tmp_path / "net.json"))
    assert from_yaml == from_json and from_yaml.value == ARCH.to_json() and from_yaml.kind == "architecture"
    assert Model.from_json(json.loads(json.dumps(from_yaml.to_json()))) == from_yaml
    function = read_model("no_such_module.models:net")
    assert (function.kind, function.folder) == ("function", str(Path.cwd())), "nothing is imported by reading a name"


def test_what_is_no_model_is_refused_and_says_what_is(tmp_path: Path):
    for name, text, said in (
        ("net.yaml", "family: [", "not YAML"),
        ("net.json", "{", "not an architecture"),
        ("net.json", "[" * 100_000, "not an architecture"),
        ("net.yaml", "family: cell", "the key"),
        ("net.onnx", "", "there is no such file"),
        ("net", "", "an .onnx file, or module:function"),
    ):
        path = tmp_path / name
        if text:
            path.write_text(text)
        with pytest.raises(InputError, match=said):
            read_model(str(path))


def test_an_onnx_file_is_checked_and_kept_in_its_folder(tmp_path: Path):
    """As text before anything opens it: data outside the folder, by a path, a link, or from an inner graph, is refused."""
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(4))
    (folder / "data").write_bytes(bytes(4))
    (folder / "link").symlink_to(tmp_path / "secret")

    def write(location: str, inner: bool = False) -> Path:
        tensor = helper.make_tensor("w", kinds.FLOAT, [1], bytes(4), raw=True)
        tensor.ClearField("raw_data")
        tensor.data_location = kinds.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        value = helper.make_tensor_value_info("y", kinds.FLOAT, [1])
        if inner:
            constant = helper.make_node("Constant", [], ["y"], value=tensor)
            graph = helper.make_graph([constant], "inner", [], [value])
            node = helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=graph)
            given = [helper.make_tensor_value_info("c", kinds.BOOL, [])]
            model = helper.make_model(helper.make_graph([node], "g", given, [value]))
        else:
            given = [helper.make_tensor_value_info("x", kinds.FLOAT, [1])]
            node = helper.make_node("Add", ["x", "w"], ["y"])
            model = helper.make_model(helper.make_graph([node], "g", given, [value], [tensor]))
        path = folder / "net.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    check_onnx(write("data"))
    assert read_model(str(write("data"))).kind == "onnx"
    for location in ("../secret", str(tmp_path / "secret"), "link", "", "sub/../../secret"):
        for inner in (False, True):
            with pytest.raises(InputError, match="outside the model's folder"):
                check_onnx(write(location, inner))
    with pytest.raises(InputError, match="which is missing"):
        check_onnx(write("nothing"))
    (folder / "net.onnx").write_text("no model")
    with pytest.raises(InputError, match=r"not an ONNX model|has no operations"):
        check_onnx(folder / "net.onnx")


class ReportingContext(Context):
    """All that ``profile`` touches of a context."""

    def __init__(self, stop: bool = False) -> None:
        self.job = Job(1, Stage.PROFILE, "profile", None, seed=5)
        self.device, self.threads, self.stop = "cpu", 1, stop
        self.reports: list[dict[str, Any]] = []

    def report(self, **progress: Any) -> None:
        self.reports.append(progress)
        if self.stop:
            raise Interrupted

    def data(self, *, test: bool = False) -> Any: ...
    def load(self, ref: Any) -> bytes: ...
    def save(self, name: str, payload: bytes) -> Any: ...
    def load_checkpoint(self) -> bytes | None: ...
    def save_checkpoint(self, payload: bytes) -> None: ...


def test_the_work_measures_an_architecture_and_takes_nothing_that_runs_code(tmp_path: Path, monkeypatch):
    body = "time_all(lambda number: [2.0] * 3)\nsay('done')"
    monkeypatch.setattr(process, "command", lambda: stand_in(tmp_path, FLAWLESS + body))
    context = ReportingContext()
    spec = {"arch": ARCH.to_json(), "protocol": {"launches": 2, "patience": 0, "memory_runs": 2}}
    found = Profile.from_json(json.loads(json.dumps(profile(spec, context).metrics)))
    assert found.latency.median == 2.0 and found.latency.runs == 2 * 4 * 3 and found.run_memory is not None
    assert found.about["settings"]["seed"] == 5 and context.reports[-1]["step"] == context.reports[-1]["steps"]
    with pytest.raises(Interrupted):
        profile({**spec, "cache": False}, ReportingContext(stop=True))
    monkeypatch.setattr(work, "measure_cached", lambda *args, **options: pytest.fail("it was measured"))
    for wrong in (
        {"arch": "os:getcwd"},
        {"arch": {"kind": "function", "value": "os:getcwd", "name": "x", "folder": "/"}},
        {"model": "os:getcwd"},
        {"arch": ARCH.to_json(), "protocol": {"luanches": 1}},
    ):
        with pytest.raises(InputError):
            profile(wrong, context)
