from collections.abc import Callable

Program = tuple[bytes, tuple[bytes, ...], tuple[bytes, ...]]

def spawn(
    arguments: object,
    live: Callable[[], Program],
    refuse: Callable[[int], object],
    recovery: tuple[bytes, ...],
    signals: int,
    timeout: int,
    /,
) -> int: ...
def start(
    path: bytes,
    arguments: tuple[bytes, ...],
    environment: tuple[bytes, ...],
    streams: tuple[int, int, int],
    folder: int,
    /,
) -> int: ...
