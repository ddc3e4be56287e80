"""The rows of one device, or several devices' rows joined to one a recipe."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archsearch.frontier.checks import Floats, Indices
from archsearch.jobs import InputError
from archsearch.recipes.metrics import column_of, numbers

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows to compare: of each its recipe, its quantisation (none where the frame does not say), its figures by name."""

    devices: tuple[str, ...]
    ids: list[Any]
    quantisations: list[Any]
    columns: Mapping[str, Floats]

    def only(self, indices: Indices) -> Rows:
        picked = indices.tolist()
        return Rows(
            self.devices,
            [self.ids[i] for i in picked],
            [self.quantisations[i] for i in picked] if self.quantisations else [],
            {name: values[indices] for name, values in self.columns.items()},
        )


def join_devices(df: pd.DataFrame, devices: Sequence[str], names: Sequence[str], bigger: Collection[str]) -> Rows:
    """The figures called ``names``, each ``COLUMN`` or ``COLUMN@DEVICE``, on the devices asked for.

    Of one device each row stands for itself. Of several there is one row a recipe and quantisation: a figure is that of the
    device it names, or the worst of all (of several rows of one device the worst too), and missing where one lacks it.

    Args:
        bigger: columns of which more is better.

    Raises:
        InputError: no such column or device, or several devices and none said.
    """
    column_of("recipe_id", df)
    columns = {name: column_of(name.partition("@")[0], df) for name in names}
    named = list(dict.fromkeys(device for name in names if (device := name.partition("@")[2])))
    wanted = _wanted(df, list(dict.fromkeys(devices)) or named)
    for device in named:
        if device not in wanted:
            raise InputError(
                f"a metric or limit is of device {device!r}, which is not among those asked for: {', '.join(wanted)}"
            )
    if len(wanted) < 2:
        rows = df[df["device"] == wanted[0]] if wanted else df
        found = {name: numbers(rows[column]) for name, column in columns.items()}
        quantisations = rows["quantisation"].tolist() if "quantisation" in df.columns else []
        return Rows(tuple(wanted), rows["recipe_id"].tolist(), quantisations, found)
    return _joined(df, wanted, columns, bigger)


def _wanted(df: pd.DataFrame, devices: list[str]) -> list[str]:
    """The devices to compare on; none where the frame does not tell them apart."""
    if "device" not in df.columns:
        if devices:
            raise InputError(f"there is no column 'device': {', '.join(devices)} cannot be told from others")
        return []
    there = sorted(map(str, df["device"].dropna().unique()))
    for device in devices:
        if device not in there:
            raise InputError(f"there is no device {device!r}; devices: {', '.join(there) or 'none'}")
    if not devices and len(there) > 1:
        raise InputError(f"the rows are of {len(there)} devices: {', '.join(there)}; say on which to compare, one or several")
    return devices or there


def _joined(df: pd.DataFrame, wanted: Sequence[str], columns: Mapping[str, str], bigger: Collection[str]) -> Rows:
    import pandas as pd

    key = ["recipe_id", *(["quantisation"] if "quantisation" in df.columns else [])]
    taken = df[df["device"].isin(wanted)]
    keys = taken[key].drop_duplicates(ignore_index=True)
    number = taken[key].merge(keys.assign(_row=range(len(keys))), how="left", on=key)["_row"].to_numpy()
    on = {device: (taken["device"] == device).to_numpy() for device in wanted}
    found = {}
    for name, column in columns.items():
        values = pd.Series(numbers(taken[column]))
        worst = "min" if column in bigger else "max"
        only = name.partition("@")[2]
        each = [
            values[on[device]].groupby(number[on[device]]).agg(worst).reindex(range(len(keys)))
            for device in ([only] if only else wanted)
        ]
        found[name] = numbers(getattr(pd.concat(each, axis=1), worst)(axis=1, skipna=False))
    quantisations = keys["quantisation"].tolist() if len(key) > 1 else []
    return Rows(tuple(wanted), keys["recipe_id"].tolist(), quantisations, found)
