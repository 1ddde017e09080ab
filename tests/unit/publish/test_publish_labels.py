"""Names of classes as the engine will read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import limits
from appliance.engine.model_files import read_lines
from appliance.errors import InvalidArgument
from appliance.publish.labels import content, names, read


@pytest.mark.parametrize(
    ("classes", "given_names", "expected"),
    [
        ((0, 1), None, ("0", "1")),
        (("no", "yes"), None, ("no", "yes")),
        ((0, 1), ["benign", "malignant"], ("benign", "malignant")),
        ((0, 1), {1: "one", 0: "zero"}, ("zero", "one")),
    ],
)
def test_names(classes, given_names, expected):
    assert names(classes, given_names) == expected


@pytest.mark.parametrize(
    ("given_names", "says"),
    [
        (["a"], r"1 labels for 2 classes \(0, 1\)"),
        (["a", "a"], "two classes have the label 'a'"),
        (["a", " "], "' ' is empty"),
        (["a", "b\nc"], "line's end"),
        (["a", "b\u2028c"], "line's end"),
        (["a", "\udcff"], "not UTF-8"),
        ({0: "a"}, "the classes are 0, 1, labels name 0"),
        ({0: "a", 1: "b", 2: "c"}, "labels name 0, 1, 2"),
    ],
)
def test_names_that_cannot_be(given_names, says):
    with pytest.raises(InvalidArgument, match=says):
        names((0, 1), given_names)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=5, unique=True))
def test_the_engine_reads_what_was_written(tmp_path_factory, texts):
    try:
        chosen = names(range(len(texts)), texts)
    except InvalidArgument:
        return
    path = tmp_path_factory.mktemp("labels") / "labels.txt"
    path.write_bytes(content(chosen))
    # A byte order mark at the beginning of a file is none of the label's characters.
    assert read_lines(path, "labels.txt", limits.labels_bytes_max) == (chosen[0].removeprefix("\ufeff"), *chosen[1:])


def test_a_file(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffä\r\nb\n".encode())
    assert read(path) == ["ä", "b"]
    path.write_bytes(b"a\n\xff\n")
    with pytest.raises(InvalidArgument, match=r"labels.txt is not UTF-8 \(byte 2\)"):
        read(path)
    with pytest.raises(InvalidArgument, match="can't be read: No such file"):
        read(tmp_path / "none.txt")


def test_bounds(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "labels_bytes_max", 3)
    with pytest.raises(InvalidArgument, match="6 bytes, at most 3"):
        content(["aa", "bb"])
    (tmp_path / "labels.txt").write_text("aa\nbb\n")
    with pytest.raises(InvalidArgument, match="larger than 3"):
        read(tmp_path / "labels.txt")
