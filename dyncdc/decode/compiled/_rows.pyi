from collections.abc import Callable

from .tables import Told

class Reader:
    def __new__(cls, tables: tuple[object, ...]) -> Reader: ...
    def read(
        self,
        records: list[bytes],
        time: int,
        opens: tuple[bool, ...],
        odd: Callable[[int, int, str, bytes], tuple[list[tuple[int, bytes]], bytes | None, int] | None],
        exact: Callable[[int], tuple[int, list[bytes], bytes, int] | None],
        others: dict[str, list[int]],
        /,
    ) -> list[Told]: ...
