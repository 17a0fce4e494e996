"""What is read from the text of a statement, however it is written."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto_anyio import _text as cqltext
from cqlproto_anyio._text import (
    StatementText,
    administration,
    has_names_only,
    marker_names,
    read_statement,
    read_verb,
    shown,
    tokens,
)

if TYPE_CHECKING:
    import re


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
        # text in a string may look like its end: after it, IF counts again
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
    assert has_names_only(text) is ("?" not in markers)


def test_names_of_markers() -> None:
    text = 'SELECT v FROM t WHERE a = :Aa AND b = ? AND c = :"Odd ""one"""'
    assert marker_names(f"{text} AND d = ':no' -- :no") == {"aa", 'Odd "one"'}
    assert marker_names("SELECT v FROM t WHERE a = ?") == set()


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
    expected = StatementText(verb, conditional and changes, several)
    assert read_statement(text) == expected
    assert has_names_only(text) is not question


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("DROP TABLE users", "DROP TABLE"),
        ("drop/* sly */keyspace shop", "DROP KEYSPACE"),
        (" ;; ALTER KEYSPACE shop WITH durable_writes = false", "ALTER KEYSPACE"),
        ("create materialized view v AS SELECT * FROM t", "CREATE MATERIALIZED VIEW"),
        ("CREATE OR REPLACE FUNCTION f(a int)", "CREATE FUNCTION"),
        ("CREATE CUSTOM INDEX ON t (a)", "CREATE INDEX"),
        ("-- hello\nTRUNCATE users", "TRUNCATE"),
        ("GRANT ALL ON KEYSPACE shop TO eve", "GRANT"),
        ("REVOKE r FROM eve", "REVOKE"),
        ("LIST ROLES", "LIST ROLES"),
        ("USE shop", "USE"),
        ("ADD IDENTITY 'x' TO ROLE r", "ADD IDENTITY"),
        ("COMMENT ON TABLE t IS 'x'", "COMMENT ON"),
        ("BEGIN BATCH DELETE FROM t WHERE a = 1 DROP TABLE t APPLY BATCH", "DROP TABLE"),
        ("SELECT * FROM t; DROP ROLE r", "DROP ROLE"),
        ("SELEC * FROM t", "SELEC"),
        ("OR REPLACE", "OR"),
        ("CUSTOM", "CUSTOM"),
        ("BEGIN BATCH UPDATE t SET a = 'DROP TABLE t' WHERE a = 1 APPLY BATCH", ""),
        ("INSERT INTO t (a) VALUES ('a--b') -- DROP TABLE t", ""),
        ('SELECT "drop", droplet, "truncate" FROM t WHERE a = :grant AND b = $$ DROP $$', ""),
        ("DESCRIBE TABLE t", ""),
        ("", ""),
        ("?", ""),
    ],
)
def test_what_administers(text: str, kind: str) -> None:
    assert administration(text) == kind


@given(data=st.data())
def test_casing_spaces_and_comments_do_not_hide_administration(data: st.DataObject) -> None:
    """Nor do strings and quoted names look like it."""
    verb = data.draw(st.sampled_from(["SELECT", "INSERT", "UPDATE", "DELETE", "BEGIN"]))
    harmless = [*data.draw(st.lists(words, max_size=8)), "'DROP TABLE x'", '"DROP"', ":drop"]
    administered = data.draw(
        st.sampled_from(["", "DROP TABLE", "ALTER ROLE", "CREATE USER", "GRANT", "TRUNCATE"])
    )
    at = data.draw(st.integers(0, len(harmless)))
    parts = [verb, *harmless[:at], *administered.split(), ";", *harmless[at:]]
    if data.draw(st.booleans()) and administered:
        parts = [*administered.split(), ";", *harmless]
    text = ""
    for part in parts:
        text += "".join(data.draw(st.lists(fillers, min_size=1, max_size=3)))
        text += data.draw(odd_case(part)) if part.isalpha() else part
    assert administration(text) == administered


@given(
    st.lists(
        st.sampled_from(
            ["OR", "REPLACE", "CUSTOM", "CREATE", "DROP", ";", "?", "'x'", "--", "a", "1"]
        ),
        max_size=5,
    )
)
def test_any_words_have_a_kind(parts: list[str]) -> None:
    assert isinstance(administration(" ".join(parts)), str)


@given(st.text(alphabet="'\"$/*-:?;aI F\n\\\u00e9", max_size=60))
def test_any_text_is_read_without_loss(text: str) -> None:
    left = text
    for _, token in tokens(text):
        position = left.find(token)
        assert position >= 0
        left = left[position + len(token) :]


@given(
    st.sampled_from(["", "UPDATE ", "INSERT ", ";delete--\n", "BEGIN ", "a/**/"]),
    st.lists(
        st.sampled_from(
            [*"'\"$/*-:?;aIFNifn_.9(\n\\\u00e9\u017f\u212a", "IF", "in", "$$", "/*", "*/"]
        ),
        max_size=40,
    ),
)
def test_what_is_found_is_what_the_tokens_say(start: str, parts: list[str]) -> None:
    text = start + "".join(parts)
    found = [(kind, token) for kind, token in tokens(text)]
    while found and found[0][1] == ";":
        del found[0]
    kind, verb = found.pop(0) if found else ("", "")
    verb = verb.upper() if kind == "word" else ""
    words = {token.upper() for kind, token in found if kind == "word"}
    changes = verb in ("INSERT", "UPDATE", "DELETE", "BEGIN")
    several = verb == "BEGIN" or (verb in ("UPDATE", "DELETE") and "IN" in words)
    assert read_verb(text) == verb
    assert read_statement(text) == StatementText(verb, changes and "IF" in words, several)
    assert has_names_only(text) is (("marker", "?") not in [*tokens(text)])


@pytest.mark.parametrize("verb", ["SELECT", "INSERT", "UPDATE", "CREATE"])
@pytest.mark.parametrize("literals", [10, 10_000])
def test_a_text_takes_a_few_matches_however_long(
    verb: str, literals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of steps of Python doesn't grow with the tokens."""
    matches = 0

    class Counted:
        def __init__(self, pattern: re.Pattern[str]) -> None:
            self._pattern = pattern

        def match(self, text: str) -> re.Match[str] | None:
            nonlocal matches
            matches += 1
            return self._pattern.match(text)

    for name in ("_FIRST_WORD", "_IF", "_IN", "_QUESTION"):
        monkeypatch.setattr(cqltext, name, Counted(getattr(cqltext, name)))
    monkeypatch.setattr(cqltext, "tokens", None)
    text = f"{verb} x WHERE k IN ({', '.join(map(str, range(literals)))}) -- {time.time_ns()}"
    for _ in range(3):
        read_statement(text)
    # for reads and schema changes the first word is enough; the result is cached
    assert matches == {"SELECT": 1, "CREATE": 1, "INSERT": 2, "UPDATE": 3}[verb]


def test_the_cache_of_long_texts_is_bounded() -> None:
    cache = cqltext._LongTexts()
    length = cqltext._MAX_LONG
    texts = [f"UPDATE t SET a = {number}".ljust(length) for number in range(10)]
    for text in texts:
        assert cache.read(text).verb == "UPDATE"
        assert cache.read(texts[0]) is cache.read(texts[0])
        assert cache.characters <= cqltext._MAX_TOTAL
        assert cache.characters == sum(map(len, cache._found))
    assert texts[0] in cache._found
    assert texts[1] not in cache._found
    before = cqltext._long_texts.characters
    assert read_statement("DELETE" + " " * length).verb == "DELETE"
    assert cqltext._long_texts.characters == before  # too long for the cache


def test_threads_share_the_cache() -> None:
    cache = cqltext._LongTexts()
    texts = [f"UPDATE t SET a = {number}".ljust(cqltext._MAX_LONG) for number in range(9)]

    def read(_: int) -> None:
        for text in texts:
            assert cache.read(text).verb == "UPDATE"

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, range(4)))
    assert cache.characters == sum(map(len, cache._found)) <= cqltext._MAX_TOTAL


@pytest.mark.parametrize(
    "unit",
    [" ", "i", "I ", "if_", "in1 ",
     "'", "''", '"', '""', "$", "$$", "$ $", "/", "*", "/*", "/**", "*/", "-", "--", "?",
     ":", ':"', ':""', ":a", "a", "9", "9a.", ";", "\n", "--\n", "/*/", "'\"", "\u00e9"],
)  # fmt: skip
def test_long_texts_take_time_in_proportion(unit: str) -> None:
    def seconds(length: int) -> float:
        text = "UPDATE t " + unit * (length // len(unit))
        started = time.process_time()
        for _ in tokens(text):
            pass
        read_statement(text + " ")
        has_names_only(text)
        shown(text)
        return time.process_time() - started

    # Quadratic time would take minutes here, and 256 times as long.
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
