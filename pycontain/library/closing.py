"""The base of what is closed at the end of a `with` or `async with` block."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self


class Closing:
    """Calls `close` at the end of the block; in `async with`, in a thread of its own."""

    def close(self) -> None:
        """Release what this object holds. A second call does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        from .aio import to_end

        await to_end(self.close, kind)
