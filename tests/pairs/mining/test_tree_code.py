import textwrap
from collections import Counter

import pytest

from udever.pairs.mining.code import comment_text
from udever.pairs.mining.pieces import code_pieces, documented
from udever.source.tree_code import GRAMMARS


def mined(text: str, suffix: str, skipped: Counter[str] | None = None):
    counts = Counter() if skipped is None else skipped
    found = code_pieces(textwrap.dedent(text).lstrip("\n"), "a" + suffix, suffix, counts)
    return [pair for piece in found if (pair := documented(piece, "eng-Latn", counts))]


JAVA = """
    class Shop {
        /**
         * Adds up the {@code price} of all <b>items</b>.
         *
         * @param items what was bought
         */
        @Override
        public int total(List<Item> items) {
            int sum = 0; // start
            return sum;
        }
    }
"""
JAVASCRIPT = """
    /**
     * Add up the prices.
     * @param {Item[]} items
     */
    export const total = (items) => {
      let sum = 0;
      return sum;
    };
"""
TYPESCRIPT = """
    class Shop {
      /** Add up the prices. */
      @log()
      total<T extends Item>(items: T[]): number {
        let sum = 0;
        return sum;
      }
    }
"""
TSX = """
    /** Shows all the prices. */
    export default function Prices(props: Props) {
      const sum = 0;
      return <b>{sum}</b>;
    }
"""
GO = """
    package shop

    // Total adds up the prices.
    // It never fails.
    //
    //go:noinline
    func (s *Shop) Total() int {
    \tsum := 0
    \treturn sum
    }
"""
PHP = """
    <?php
    class Shop {
        /**
         * Add up the prices.
         *
         * @return int
         */
        #[Pure]
        public function total(array $items): int {
            $sum = 0;
            return $sum;
        }
    }
"""
RUBY = """
    class Shop
      # Adds up the prices.
      #
      # @param items [Array]
      def total(items)
        sum = 0
        sum
      end
    end
"""
RUST = """
    impl Shop {
        /// Adds up the prices.
        ///
        /// # Panics
        /// Never.
        #[inline]
        pub fn total(&self) -> i32 {
            let sum = 0;
            sum
        }
    }
"""
CPP = """
    namespace shop {
    /// \\brief Adds up the prices.
    /// \\param items what was bought
    template <typename T>
    int total(const T& items) {
      int sum = 0;
      return sum;
    }
    }
"""


@pytest.mark.parametrize(
    ("suffix", "text", "language", "anchor", "first", "last"),
    [
        (".java", JAVA, "java-Code", "Adds up the price of all items.", "@Override", "}"),
        (
            ".js",
            JAVASCRIPT,
            "javascript-Code",
            "Add up the prices.",
            "export const total = (items) => {",
            "};",
        ),
        (".ts", TYPESCRIPT, "typescript-Code", "Add up the prices.", "@log()", "}"),
        (
            ".tsx",
            TSX,
            "typescript-Code",
            "Shows all the prices.",
            "export default function Prices(props: Props) {",
            "}",
        ),
        (
            ".go",
            GO,
            "go-Code",
            "Total adds up the prices.\nIt never fails.",
            "func (s *Shop) Total() int {",
            "}",
        ),
        (".php", PHP, "php-Code", "Add up the prices.", "#[Pure]", "}"),
        (".rb", RUBY, "ruby-Code", "Adds up the prices.", "def total(items)", "end"),
        (".rs", RUST, "rust-Code", "Adds up the prices.", "#[inline]", "}"),
        (".cpp", CPP, "c++-Code", "Adds up the prices.", "template <typename T>", "}"),
    ],
)
def test_each_language_gives_its_function_without_the_comment(suffix, text, language, anchor, first, last):
    (pair,) = mined(text, suffix)
    assert pair.anchor == anchor
    assert (pair.anchor_language, pair.positive_language, pair.kind) == ("eng-Latn", language, "asymmetric")
    lines = pair.positive.split("\n")
    assert lines[0].startswith(first)
    assert lines[-1] == last
    assert "prices." not in pair.positive
    # The function's lines are the file's, one after another, less the indentation they share.
    file_lines = textwrap.dedent(text).split("\n")
    start = next(row for row, line in enumerate(file_lines) if line.strip() == lines[0])
    shared = len(file_lines[start]) - len(file_lines[start].lstrip())
    assert lines == [line[shared:] for line in file_lines[start : start + len(lines)]]


def test_every_suffix_has_a_grammar_that_loads():
    for suffix in GRAMMARS:
        assert mined("", suffix) == []


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".js", "/** Adds the prices up. */\nfunction* total(a) {\n  let s = 0;\n  yield s;\n}"),
        (
            ".js",
            "class A {\n  /** Adds the prices up. */\n  static async f(a) {\n    g();\n    h();\n  }\n}",
        ),
        (
            ".js",
            "class A {\n  /** Adds the prices up. */\n  f = (a) => {\n    g();\n    h();\n  };\n}",
        ),
        (".js", "/** Adds the prices up. */\nexports.total = function (a) {\n  let s = 0;\n  return s;\n};"),
        (
            ".js",
            "x = {\n  /** Adds the prices up. */\n  f: function (a) {\n    g();\n    h();\n  },\n};",
        ),
        (".java", "class A {\n/** Makes a new shop. */\nA() {\n  int x = 0;\n  y = x;\n}\n}"),
        (".go", "package a\n/*\nAdds the prices up.\n*/\nfunc T() int {\n\ts := 0\n\treturn s\n}"),
        (".rb", "# Adds the prices up.\ndef self.total(a)\n  s = 0\n  s\nend"),
        (".rs", "/** Adds the prices up. */\npub async fn total() -> i32 {\n    let s = 0;\n    s\n}"),
        (".c", "/* Adds the prices up. */\nstatic int total(int a)\n{\n  int s = a;\n  return s;\n}"),
        (".php", "<?php\n/** Adds the prices up. */\nfunction total($a) {\n  $s = 0;\n  return $s;\n}"),
    ],
)
def test_other_forms_of_functions_are_found(suffix, text):
    (pair,) = mined(text, suffix)
    assert pair.anchor in ("Adds the prices up.", "Makes a new shop.")
    assert "/*" not in pair.positive
    assert "#" not in pair.positive


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".js", "// Adds the prices up.\nfunction total(a) {\n  let s = 0;\n  return s;\n}"),  # no JSDoc
        (
            ".js",
            "/** Adds the prices up. */\n\nfunction total(a) {\n  let s = 0;\n  return s;\n}",
        ),  # not above it
        (".js", "/** Calls the thing now. */\nrun((a) => {\n  let s = 0;\n  return s;\n});"),  # a call's
        (".js", "/** Two things at once. */\nconst a = 1, f = () => {\n  let s = 0;\n  return s;\n};"),
        (".c", "int x; /* counts all the calls */\nint total(int a)\n{\n  int s = a;\n  return s;\n}"),
        (".rs", "//! Adds the prices up.\nfn total() -> i32 {\n    let s = 0;\n    s\n}"),  # the module's
    ],
)
def test_comments_that_do_not_belong_to_the_function_give_no_row(suffix, text):
    assert mined(text, suffix) == []


def test_what_is_left_out_is_counted():
    skipped: Counter[str] = Counter()
    text = """
    class A {
        /** Short one. */
        int a() {
            x();
            return 1;
        }
        /** Returns the x value. */
        int x() { return x; }
        /** Does not parse at all. */
        int y() {
            int = = 3;
            return 1;
        }
    }
    """
    assert mined(text, ".java", skipped) == []
    assert skipped == {
        "row: doc comment under 3 words": 1,
        "row: function under 3 lines": 1,
        "row: function that does not parse": 1,
    }


def test_lines_inside_a_string_keep_their_white_space():
    text = "class A {\n    /** Builds a query. */\n    f() {\n        return `\n            a\n    b`;\n    }\n}"
    (pair,) = mined(text, ".js")
    assert pair.positive == "f() {\n    return `\n            a\n    b`;\n}"


def test_characters_of_several_bytes_do_not_shift_the_cut():
    (pair,) = mined(
        "/* ü 文字 */\n/** Gibt die Größe zurück. */\nfunction größe(ä) {\n  let ß = 1;\n  return ß;\n}",
        ".js",
    )
    assert pair.anchor == "Gibt die Größe zurück."
    assert pair.positive == "function größe(ä) {\n  let ß = 1;\n  return ß;\n}"


@pytest.mark.parametrize(
    ("comments", "expected"),
    [
        (["/** One. */"], "One."),
        (["/** */"], ""),
        (["/*!\n * \\brief One.\n *\n * More &lt;x&gt;.\n * \\return two\n */"], "One.\n\nMore <x>."),
        (
            ["/**\n * See {@link Foo#bar the bar}.\n * <p>Then <code>x</code>.</p>\n */"],
            "See Foo#bar the bar.\nThen x.",
        ),
        (["// ------", "// One.", "//nolint:all", "//   indented"], "One.\nindented"),
        (["## One", "# two"], "One\ntwo"),
        (["=begin\nOne.\n=end"], "One."),
    ],
)
def test_comments_lose_markers_tags_and_markup(comments, expected):
    assert comment_text(comments) == expected
