from collections.abc import Callable

from dyncdc.decode.compiled.layout import Told

VERSION: int

class Reader:
    def __new__(cls, tables: tuple[object, ...]) -> Reader: ...
    def read(
        self,
        records: list[bytes],
        time: int,
        opens: tuple[bool, ...],
        odd: Callable[[int, int, str | None, bytes], tuple[list[tuple[int, bytes]], bytes | None, int] | bytes | None],
        exact: Callable[[int], tuple[int, list[bytes], bytes, int] | None],
        others: dict[str, list[int]],
        /,
    ) -> list[Told]: ...
