"""
Run Python code that arrives on a socket, and answer how it went.

    program outside                        here
    a mark of four bytes, two lengths,
      a newline, the code, the input   ->
                                       <-  the length in four bytes, the mark, then JSON:
                                           {"value": …, "shown": …, "error": …, "errno": …}

The first argument is the mode: "once"; "session", until the end of file with the variables kept; or
"prepared", once, and "ready" is said when the modules of the further arguments are imported. The
second one has directories of packages. This file is all of it: it is copied into the root file
system, or given to an interpreter of an image as text, which may be Python 3.8, so it imports only
the standard library, and little of that, since each import delays the code.
"""

from __future__ import annotations

import _json
import builtins
import os
import sys

_NAME = "<snippet>"
_SHOWN = 1 << 16  # characters of a repr
_MOST = 1 << 20  # bytes of an answer
_PIECE = 1 << 16
_MARK = 4  # bytes


def main(control: int, mode: str) -> None:
    """Serve the program outside on this descriptor, then exit; does not return."""
    space = _new_main()
    status = 0
    while (request := _receive(control)) is not None:
        mark, code, given = request
        _replace_input(given)
        status, answer = _run(code, space)
        if mode == "once":
            status = _end(status)
        _flush()
        if status < 0:  # sys.exit ends the session: its process's end is the answer
            break
        _send(control, mark, answer)
        if mode == "once":
            break
    os._exit(abs(status))


def take_control() -> int:
    """The socket that is standard input moves out of the way; the snippet gets /dev/null."""
    control = os.dup(0)  # close-on-exec
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return control


def warm_up() -> None:
    """Load and run once what every snippet needs, before copies of this process are made."""
    import atexit  # noqa: F401
    import linecache  # noqa: F401
    import traceback  # noqa: F401

    _run(b"1 + 1", {})


def prepare(control: int, names: list[str]) -> None:
    """Do everything that takes time before the code comes, and say so."""
    for name in names:
        __import__(name)
    warm_up()
    os.write(control, b"ready")


def _new_main() -> dict[str, object]:
    """The variables of a new module `__main__`; imports find modules in the working directory."""
    module = type(sys)("__main__")
    sys.modules["__main__"] = module
    sys.argv = [""]
    sys.path.insert(0, "")
    for name in ("exit", "quit"):  # which only `site` makes
        setattr(builtins, name, sys.exit)
    return module.__dict__


# --- one snippet -------------------------------------------------------------------------------


def _run(source: bytes, space: dict[str, object]) -> tuple[int, dict[str, object]]:
    """
    Run a snippet; returns its exit status and the answer.

    The status is negative if it has called sys.exit, which ends a session, too.
    """
    try:
        value = _value(source, space)
    except SystemExit as end:
        return -_status_of(end), {}
    except BaseException as error:
        _print(error, source)
        kind = type(error)
        return 1, {
            "error": f"{kind.__name__}: {_text(error)}"[:_SHOWN],
            "kind": kind.__name__,
            "errno": getattr(error, "errno", None) if isinstance(error, OSError) else None,
        }
    return 0, {} if value is None else _described(value)


def _value(source: bytes, space: dict[str, object]) -> object:
    """Execute all of it; the value is that of the last statement, if that is an expression."""
    import _ast

    only_tree = 0x400  # ast.PyCF_ONLY_AST, without importing ast
    tree = compile(source, _NAME, "exec", only_tree, True)
    assert isinstance(tree, _ast.Module)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], _ast.Expr) else None
    exec(compile(tree, _NAME, "exec", 0, True), space)  # noqa: S102
    if last is None:
        return None
    assert isinstance(last, _ast.Expr)
    return eval(compile(_ast.Expression(last.value), _NAME, "eval", 0, True), space)


def _status_of(end: SystemExit) -> int:
    """As Python itself does it; 256 stands for 0, which would not be negative."""
    if end.code is None:
        return 256
    if isinstance(end.code, int):
        return end.code & 0xFF or 256
    os.write(2, f"{end.code}\n".encode(errors="replace"))
    return 1


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:
        return ""


def _print(error: BaseException, source: bytes) -> None:
    """Print the traceback without our own frames."""
    try:
        import linecache
        import traceback

        lines = source.decode(errors="replace").splitlines(keepends=True)
        linecache.cache[_NAME] = (len(source), None, lines, _NAME)
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != _NAME:
            trace = trace.tb_next
        _flush()
        traceback.print_exception(type(error), error, trace)
    except BaseException:  # no memory, no descriptors, or the snippet has changed these modules
        os.write(2, f"{type(error).__name__}\n".encode())


def _described(value: object) -> dict[str, object]:
    """The value, if JSON can express it, and its repr."""
    try:
        shown = repr(value)
    except BaseException as error:
        shown = f"<repr failed: {type(error).__name__}>"
    described: dict[str, object] = {"shown": shown[:_SHOWN]}
    if _is_plain(value, 20):
        described["value"] = value
    return described


def _is_plain(value: object, depth: int) -> bool:
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return True
    if not depth:
        return False
    if kind is list:
        return all(_is_plain(each, depth - 1) for each in value)  # type: ignore[attr-defined]
    if kind is dict:
        return all(
            type(key) is str and _is_plain(each, depth - 1)
            for key, each in value.items()  # type: ignore[attr-defined]
        )
    return False


def _end(status: int) -> int:
    """Do what Python does at its end: wait for threads, call what atexit has registered."""
    import atexit

    try:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()  # noqa: SLF001
        atexit._run_exitfuncs()  # noqa: SLF001
    except BaseException as error:
        _print(error, b"")
    return 0 if abs(status) == 256 else abs(status)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # noqa: S112 -- closed, or replaced by the snippet
            continue


# --- the socket --------------------------------------------------------------------------------


def _receive(control: int) -> tuple[bytes, bytes, bytes] | None:
    """The next mark, code and input, None at the end of file."""
    mark = _exactly(control, _MARK)
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(control, 1)
        if not byte:
            return None
        line += byte
    code, given = map(int, line.split())
    return mark, _exactly(control, code), _exactly(control, given)


def _exactly(control: int, size: int) -> bytes:
    pieces = []
    while size and (piece := os.read(control, min(size, _PIECE))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _replace_input(data: bytes) -> None:
    """Make data the standard input, as a file without a name."""
    if not data:
        return
    file = os.open("/tmp", os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
    os.lseek(file, 0, os.SEEK_SET)
    os.dup2(file, 0)
    os.close(file)


def _send(control: int, mark: bytes, answer: dict[str, object]) -> None:
    text = _encoded(answer)
    if len(text) > _MOST:
        answer.pop("value", None)
        text = _encoded(answer)
    data = memoryview(len(text).to_bytes(4, "little") + mark + text)
    while data:
        data = data[os.write(control, data) :]


def _encoded(answer: dict[str, object]) -> bytes:
    """As json.dumps, whose module takes long to import, and cannot be without a descriptor."""
    return "".join(_ENCODE(answer, 0)).encode()


_ENCODE = _json.make_encoder(
    None, repr, _json.encode_basestring_ascii, None, ":", ",", False, False, True
)

if __name__ == "__main__":
    _mode, _paths, *_names = sys.argv[1:]
    sys.path += _paths.split(":") if _paths else []
    _control = take_control()
    if _mode == "prepared":
        prepare(_control, _names)
    main(_control, "session" if _mode == "session" else "once")
