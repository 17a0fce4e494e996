"""What is told of a statement by its text, however it is written."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto_anyio.cqltext import StatementText, read_statement, shown, tokens


@pytest.mark.parametrize(
    "text",
    [
        "USE ks",
        "use ks;",
        "  \r\n\tUsE ks",
        "/* sly */USE ks",
        "/* * ** /* */ USE ks",
        "/**/USE ks",
        "-- a line\nUSE ks",
        "// a line\r\nUSE ks",
        ";USE ks",
        " ; /* a */ ; -- b\n USE ks",
        'USE"ks"',
        "USE/**/ks",
    ],
)
def test_use_is_found_behind_anything(text: str) -> None:
    assert read_statement(text).verb == "USE"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "-- USE ks",
        "/* USE ks */",
        "/* USE ks",
        '"USE" ks',
        "'USE' ks",
        "$$USE$$ ks",
        "USER ks",
        "USE_ ks",
        "USE1 ks",
        "SELECT use FROM t",
        "SELECT v FROM t -- \nUSE ks",
    ],
)
def test_what_only_looks_like_use(text: str) -> None:
    assert read_statement(text).verb != "USE"


@pytest.mark.parametrize(
    ("text", "conditional"),
    [
        ("INSERT INTO t (k) VALUES (1) IF NOT EXISTS", True),
        ("update t set v = 1 where k = 1 if v = 2", True),
        ("DELETE FROM t WHERE k = 1 IF/**/EXISTS", True),
        ("BEGIN BATCH INSERT INTO t (k) VALUES (1) IF NOT EXISTS; APPLY BATCH", True),
        ("INSERT INTO t (k) VALUES ('it''s IF')", False),
        ("INSERT INTO t (k) VALUES ('IF')", False),
        ("INSERT INTO t (k) VALUES ($$ it's IF $ IF $$)", False),
        ('INSERT INTO t ("IF") VALUES (1)', False),
        ('INSERT INTO t ("a""IF") VALUES (1)', False),
        ("INSERT INTO t (k) VALUES (1) -- IF NOT EXISTS", False),
        ("INSERT INTO t (k) /* IF */ VALUES (1)", False),
        ("INSERT INTO t (iffy) VALUES (1)", False),
        ("INSERT INTO t (k) VALUES (:if)", False),
        ("CREATE TABLE IF NOT EXISTS t (k int PRIMARY KEY)", False),
        ("DROP TABLE IF EXISTS t", False),
        ("SELECT v FROM t", False),
        # what a string holds may end it: after it, IF counts again
        ("UPDATE t SET v = 'a''' WHERE k = 1 IF v = 2", True),
        ("UPDATE t SET v = $$a'b$$ WHERE k = 1 IF v = 2", True),
    ],
)
def test_conditional(text: str, conditional: bool) -> None:
    assert read_statement(text).conditional is conditional


@pytest.mark.parametrize(
    ("text", "markers"),
    [
        ("SELECT v FROM t WHERE k = ?", ["?"]),
        ('SELECT v FROM t WHERE k = :key AND l=:"Odd one"', [":key", ':"Odd one"']),
        ("SELECT v FROM t WHERE k = '?' AND l = $$:no$$ AND \"?\" = 1 -- ? :no", []),
        ("SELECT v /* ? :no */ FROM t // ?", []),
        ("UPDATE t SET m = {'a:b': 1} WHERE k = ?", ["?"]),
        ("SELECT v[?] FROM t WHERE k=?", ["?", "?"]),
    ],
)
def test_markers(text: str, markers: list[str]) -> None:
    assert [token for kind, token in tokens(text) if kind == "marker"] == markers
    assert read_statement(text).named is ("?" not in markers)


@pytest.mark.parametrize("verb", ["SELECT", "list", "Describe", "DESC"])
def test_what_only_reads(verb: str) -> None:
    assert read_statement(f"/* a */ {verb} x").reads


@pytest.mark.parametrize("verb", ["INSERT", "BEGIN", "TRUNCATE", "GRANT", "", "'SELECT'"])
def test_what_may_write(verb: str) -> None:
    assert not read_statement(f"{verb} x").reads


fillers = st.sampled_from(
    [" ", "\n", "\t ", "/* IF ? USE */", "/***/", "-- IF ' ?\n", '// " $$ :x\r\n', "/*'*/", "\r\n"]
)
words = st.sampled_from(
    [
        "x",
        "i",
        "isin",
        "'IN'",
        "'IF'",
        "'it''s ?'",
        "$$ IF :a $$",
        '"IF"',
        '"a""?"',
        "12",
        ":m",
        ':"Q"',
        "(",
        ",",
        "=",
    ]
)
verbs = st.sampled_from(["SELECT", "INSERT", "UPDATE", "DELETE", "BEGIN", "USE", "CREATE"])


@st.composite
def odd_case(draw: st.DrawFn, word: str) -> str:
    return "".join(draw(st.sampled_from([char.lower(), char.upper()])) for char in word)


@given(data=st.data())
def test_casing_spaces_and_comments_do_not_count(data: st.DataObject) -> None:
    verb = data.draw(verbs)
    parts = data.draw(st.lists(words, max_size=8))
    conditional, question, several = (data.draw(st.booleans()) for _ in range(3))
    extra = [data.draw(odd_case("IF"))] * conditional + ["?"] * question
    extra += [data.draw(odd_case("IN"))] * several
    shuffled = data.draw(st.permutations([*parts, *extra]))
    text = data.draw(st.sampled_from(["", ";", " ; ;"]))
    for part in [data.draw(odd_case(verb)), *shuffled]:
        text += "".join(data.draw(st.lists(fillers, min_size=1, max_size=3))) + part
    changes = verb in ("INSERT", "UPDATE", "DELETE", "BEGIN")
    several = verb == "BEGIN" or (several and verb in ("UPDATE", "DELETE"))
    expected = StatementText(verb, conditional and changes, not question, several)
    assert read_statement(text) == expected


@given(st.text(alphabet="'\"$/*-:?;aI F\n\\\u00e9", max_size=60))
def test_any_text_is_read_without_loss(text: str) -> None:
    read_statement(text)
    left = text
    for _, token in tokens(text):
        position = left.find(token)
        assert position >= 0
        left = left[position + len(token) :]


@pytest.mark.parametrize(
    "unit",
    [" ", "'", "''", '"', '""', "$", "$$", "$ $", "/", "*", "/*", "/**", "*/", "-", "--", "?", ":",
     ':"', ':""', ":a", "a", "9", "9a.", ";", "\n", "--\n", "/*/", "'\"", "\u00e9"],
)  # fmt: skip
def test_long_texts_take_time_in_proportion(unit: str) -> None:
    def seconds(length: int) -> float:
        text = "UPDATE t " + unit * (length // len(unit))
        started = time.process_time()
        for _ in tokens(text):
            pass
        return time.process_time() - started

    # Quadratic time would be a matter of minutes here, and of 256 times as long.
    small = max(min(seconds(1_000) for _ in range(3)), 50e-6)
    assert seconds(256_000) < small * 256 * 12


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT *\n  FROM t", "SELECT * FROM t"),
        ("CREATE ROLE r WITH PASSWORD = 'it''s'", "CREATE ROLE r WITH PASSWORD = '..'"),
        ("UPDATE t SET a = $$x$$ -- 'why'\n", "UPDATE t SET a = '..'"),
        ("INSERT INTO t (a) VALUES ('" + "x" * 1000, "INSERT INTO t (a) VALUES ('..'"),
        ("SELECT " + "a, " * 100, "SELECT " + "a, " * 23 + "a..."),
        ("", ""),
    ],
)  # fmt: skip
def test_shown_without_its_strings(text: str, expected: str) -> None:
    assert shown(text) == expected


@given(st.text())
def test_shown_is_short(text: str) -> None:
    assert len(shown(text)) <= 80
    assert "\n" not in shown(text)
