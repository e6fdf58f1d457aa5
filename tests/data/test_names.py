"""Names without a Python object for each."""

import pickle

from hypothesis import given
from hypothesis import strategies as st

from fovea.data.names import Names, printable

anything = st.binary(max_size=9).map(lambda name: name.decode("utf-8", "surrogateescape"))


@given(st.lists(anything))
def test_names_come_back_as_they_were(names: list[str]) -> None:
    stored = pickle.loads(pickle.dumps(Names(names)))
    assert list(stored) == names
    assert len(stored) == len(names)


@given(anything)
def test_what_is_printable_fits_a_line_of_any_log(name: str) -> None:
    line = printable(name)
    line.encode("utf-8")
    assert len(line.splitlines()) <= 1
    assert line == name or not name.isprintable()


def test_names_take_little_more_than_their_text() -> None:
    stored = Names(f"class/{i}.jpg" for i in range(1000))
    assert stored.text.nbytes + stored.ends.nbytes < 1000 * 25
