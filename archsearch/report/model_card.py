"""The card of an exported model: what is known of it, as JSON, and the same for people, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeGuard

from archsearch.jobs import JSON
from archsearch.measured import label
from archsearch.report.intervals import CONFIDENCE, student, wilson
from archsearch.report.view import error_label, quantity

_LEVEL = f"{100 * CONFIDENCE:g} %"
#: What Markdown or HTML would read as more than text.
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&$])")

ONNX = """
import numpy as np
import onnxruntime
from safetensors.numpy import load_file

example = load_file("example.safetensors")  # made-up images, and what PyTorch made of them
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
(logits,) = session.run(None, {"images": example["images"]})
assert np.abs(logits - example["logits"]).max() <= 1e-4 * np.abs(example["logits"]).max()
print("classes:", logits.argmax(1))
"""
TORCH = """
import torch
from safetensors.torch import load_file

example = load_file("example.safetensors")
network = torch.export.load("model.pt2").module()
with torch.inference_mode():
    logits = network(example["images"])
assert (logits - example["logits"]).abs().max() <= 1e-4 * example["logits"].abs().max()
print("classes:", logits.argmax(1).tolist())
"""
WEIGHTS = """
from pathlib import Path

import torch
from archsearch.arch import Architecture
from archsearch.arch.build import build
from safetensors.torch import load_file

network = build(Architecture.from_yaml(Path("architecture.yaml").read_text()))
network.load_state_dict(load_file("weights.safetensors"))
network.eval()
example = load_file("example.safetensors")
{images}
with torch.inference_mode():
    logits = network(images)
assert (logits - example["logits"]).abs().max() <= 1e-4 * example["logits"].abs().max()
print("classes:", logits.argmax(1).tolist())
"""


def metric_rows(metrics: Mapping[str, JSON], images: Mapping[str, int]) -> list[dict[str, JSON]]:
    """The errors of one training with their intervals: ``name``, ``value``, ``interval``, ``method``, ``images``.

    Args:
        metrics: of a training, and of its test where there was one.
        images: how many each of the splits ``val`` and ``test`` has.
    """
    rows: list[dict[str, JSON]] = []
    for split, count in images.items():
        value = metrics.get(f"{split}_error")
        if _is_number(value) and count:
            method = f"{_LEVEL} interval by Wilson, of {count} images"
            rows.append(_row(f"{split}_error", value, wilson(value, count), method, count))
        value, error = (metrics.get(f"{split}_balanced_{what}") for what in ("error", "standard_error"))
        if _is_number(value) and _is_number(error):
            ends = max(0.0, value - 1.959964 * error), min(1.0, value + 1.959964 * error)
            method = f"{_LEVEL} interval by the normal distribution from its standard error, of {count} images"
            rows.append(_row(f"{split}_balanced_error", value, ends, method, count))
    return rows


def seeds_row(name: str, values: Sequence[float], count: int) -> dict[str, JSON]:
    """The mean error of several trainings of a network, each with its own seed and measured on the same ``count`` images."""
    mean, half = student(values)
    method = f"mean of {len(values)} trainings, {_LEVEL} interval by Student's t over their seeds"
    interval = None if half is None else (max(0.0, mean - half), min(1.0, mean + half))
    return {**_row(name, mean, interval, method, count), "seeds": list(values)}


def _row(name: str, value: JSON, interval: Sequence[float] | None, method: str, count: int) -> dict[str, JSON]:
    return {
        "name": name,
        "value": value,
        "interval": None if interval is None else list(interval),
        "method": method,
        "images": count,
    }


def _is_number(value: JSON) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def snippets(card: Mapping[str, JSON]) -> dict[str, str]:
    """Python that loads each file and compares its answer with PyTorch's, by file name; to be run in the card's folder."""
    found = {"model.onnx": ONNX, "model.pt2": TORCH}
    mean, deviation = card["input"]["mean"], card["input"]["deviation"]
    lines = ['images = example["images"]']
    if card["input"]["type"] == "uint8":  # these weights alone have no normalisation
        lines[0] += ".permute(0, 3, 1, 2) / 255"
        lines += [f"mean = torch.tensor({mean}).view(1, -1, 1, 1)", f"deviation = torch.tensor({deviation}).view(1, -1, 1, 1)"]
        lines += ["images = (images - mean) / deviation"]
    texts = {name: text for name, text in found.items() if name in card["files"]}
    texts["weights.safetensors"] = WEIGHTS.replace("{images}", "\n".join(lines))
    return {name: text.lstrip() for name, text in texts.items()}


def card_markdown(card: Mapping[str, JSON]) -> str:
    """The card for people. Whatever a stranger's run could have named is escaped."""
    return "\n".join(_lines(card)) + "\n"


def _lines(card: Mapping[str, JSON]) -> Iterator[str]:
    model, source, costs = card["model"], card["source"], card["costs"]
    trained = "" if source["evaluation"] is None else f", trained anew for evaluation {plain(source['evaluation'])}"
    yield f"# {plain(card['name'])}"
    yield ""
    yield f"An image classifier found by a search: run {plain(source['run'])}, point {source['point']}{trained}."
    yield f"Architecture {plain(model['architecture'])}, hash `{model['hash']}`; recipe {_code(card['recipe'])}."
    yield from _section("Input and output", _input(card))
    yield from _section("Errors", _errors(card))
    yield from _section("Costs", _costs(costs, card["devices"]))
    yield from _section("Data", _data(card["data"]))
    yield from _section("Lineage", _lineage(card))
    yield from _section("Files", _files(card))
    yield from _section("Checked before it was written", _checks(card))
    yield from _section("Load it", _snippets(card))
    yield from _section("Versions", _versions(card["versions"]))


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield from ("", f"## {title}", "", *lines)


def _input(card: Mapping[str, JSON]) -> Iterator[str]:
    into, out = card["input"], card["output"]
    shape = ", ".join(map(str, into["shape"]))
    yield f"- in: `{into['name']}`, {into['type']}, shape ({shape}), {into['layout']}; any batch size"
    yield f"- {into['meaning']}"
    yield f"- normalisation: {into['normalisation']}; of pixels scaled to 0..1, mean {into['mean']}"
    yield f"  and deviation {into['deviation']}"
    yield f"- out: `{out['name']}`, float32, shape (batch, {out['classes']}): the largest one tells the class"
    yield f"- classes, in order: {', '.join(map(plain, out['class_names']))}"


def _errors(card: Mapping[str, JSON]) -> Iterator[str]:
    yield "| error | % | interval | how |"
    yield "| --- | ---: | ---: | --- |"
    for row in card["metrics"]:
        ends = "" if row["interval"] is None else f"{100 * row['interval'][0]:.2f} to {100 * row['interval'][1]:.2f}"
        yield f"| {plain(error_label(row['name']))} | {100 * row['value']:.2f} | {ends} | {row['method']} |"
    yield ""
    yield card["metrics_note"]


def _costs(costs: Mapping[str, JSON], devices: Mapping[str, JSON]) -> Iterator[str]:
    yield f"- {costs['madds']:,} multiply-adds and {costs['activation_bytes']:,} bytes of activations an image"
    yield f"- {costs['params']:,} parameters"
    if not devices["measured"]:
        yield "- on devices: this run has measured nothing"
    for row in devices["measured"]:
        words, unit = label(row["name"]) or (row["name"], row["unit"])
        ends = f"{quantity(row['low'])} to {quantity(row['high'])}"
        noisy = ", noisy" if row["noisy"] else ""
        yield f"- {plain(words)}: {quantity(row['value'])} {plain(unit)} ({_LEVEL} interval {ends}{noisy})"
    for row in devices["by"]:
        yield f"- measured with {plain(row['runtime'])}, on the device of fingerprint {_code(row['fingerprint'])}"


def _data(data: Mapping[str, JSON]) -> Iterator[str]:
    counts = ", ".join(f"{count} {split}" for split, count in data["images"].items())
    yield f"{plain(data['name'])}, {data['classes']} classes, images: {counts}; SHA-256 `{data['hash']}`."
    yield "None of its images is in these files."


def _lineage(card: Mapping[str, JSON]) -> Iterator[str]:
    yield "| point | architecture | mult-adds | error % | what grew |"
    yield "| ---: | --- | ---: | ---: | --- |"
    for row in card["lineage"]:
        origin = row["origin"]
        came = [] if origin is None else [f"taken from run {origin['run']}, point {origin['point']}"]
        text = "; ".join([*came, *row["grew"]]) or "the seed"
        madds = "" if row["madds"] is None else f"{row['madds']:,.0f}"
        error = "" if row["error"] is None else f"{100 * row['error']:.2f}"
        cells = (row["point"], row["architecture"], madds, error, text)
        yield f"| {' | '.join(plain(cell) for cell in cells)} |"


def _files(card: Mapping[str, JSON]) -> Iterator[str]:
    yield "| file | bytes | SHA-256 |"
    yield "| --- | ---: | --- |"
    for name, about in card["files"].items():
        yield f"| {name} | {about['size']} | `{about['sha256']}` |"
    yield ""
    yield (
        "Compare the sums before you load anything that has been elsewhere. ONNX and safetensors files hold no code. "
        "`torch.export.load` unpickles what a `.pt2` file says is pickled, which can run any code: nothing in one that is "
        "exported here is, but load no changed one, and none of a stranger's."
    )


def _checks(card: Mapping[str, JSON]) -> Iterator[str]:
    yield "Each file was run and compared with PyTorch: the largest difference in a batch, as a share of its largest output."
    yield ""
    yield "| file | largest difference | allowed | validation images | made-up inputs | batch sizes | same class |"
    yield "| --- | ---: | ---: | ---: | ---: | --- | ---: |"
    for name, row in card["checks"].items():
        sizes = ", ".join(map(str, row["batch_sizes"]))
        figures = f"{row['largest_difference']:.1e} | {row['tolerance']:.0e} | {row['images']} | {row['made_up']}"
        yield f"| {name} | {figures} | {sizes} | {row['same_class']} of {row['images']} |"


def _snippets(card: Mapping[str, JSON]) -> Iterator[str]:
    for name, text in snippets(card).items():
        yield from (f"{name}:", "", "```python", text.rstrip(), "```", "")


def _versions(versions: Mapping[str, JSON]) -> Iterator[str]:
    for when, packages in versions.items():
        yield f"- {when}: " + ", ".join(f"{plain(name)} {plain(version)}" for name, version in packages.items())


def plain(value: JSON) -> str:
    """Text that Markdown shows as it is, on one line."""
    text = "".join(character if character.isprintable() else " " for character in str(value))
    return _SPECIAL.sub(r"\\\1", text)


def _code(value: JSON) -> str:
    return "not known" if value is None else f"`{re.sub(r'[^0-9A-Za-z._-]', '', str(value))}`"
