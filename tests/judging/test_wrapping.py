from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from pairsmith.judging.wrapping import only_object


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_a_comma_too_many_changes_no_value(value: object) -> None:
    said = json.dumps({"a": value}, ensure_ascii=False)
    assert only_object(said[:-1] + " ,\n}")[0] == {"a": value}
