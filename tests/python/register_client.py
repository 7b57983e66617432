"""Run by a Python that has MLflow and the trainers: calls scripts/register_model.py (the first argument) with
the arguments of each line on standard input, a list in JSON, and answers with its exit code and its words. What
the script imports is imported once."""

import contextlib
import importlib.util
import io
import json
import sys

spec = importlib.util.spec_from_file_location("register_model", sys.argv[1])
script = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = script
spec.loader.exec_module(script)
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            script.main(json.loads(line))
        except SystemExit as left:
            code = left.code
            if isinstance(code, str):
                err.write(code + "\n")
                code = 1
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
