"""Runs sessions of onert one after another, as a JSON list on stdin asks: through the runtime, or with variables of the
environment as ONE's own runner takes them. With TRACING_MODE on, onert writes at the end of the process what ran where."""

from __future__ import annotations

import json
import os
import sys

from profile_models import named

from archsearch.profile.models import load_model
from archsearch.profile.runtimes import runtime


def main() -> None:
    from onert import infer

    used, model = runtime("onert"), load_model(named("many_kinds"), 1)
    used.settle(1)
    for request in json.load(sys.stdin):
        variables = request.get("variables", {})
        os.environ.update(variables)
        if "backends" in request:
            infer.session(str(used.file(model)), backends=request["backends"]).infer(list(model.inputs))
        else:
            compiled = used.compile(model, request["assignment"])
            compiled.run(compiled.load(model.inputs))
        for name in variables:
            del os.environ[name]


if __name__ == "__main__":
    main()
