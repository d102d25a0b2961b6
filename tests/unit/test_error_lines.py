"""Which lines of C source count as error lines."""

from __future__ import annotations

import pytest

from inject.coverage.error_lines import ErrorLine, error_lines


def numbers(source: str) -> list[int]:
    """The numbers of the error lines."""
    return [line.number for line in error_lines(source)]


@pytest.mark.parametrize(
    ("line", "private"),
    [
        ("return -EINVAL;", False),
        ("return -BCH_ERR_ENOSPC_disk_reservation;", True),
        ("return ERR_PTR(-BCH_ERR_ENOMEM_dev_alloc);", True),
        ("return bkey_s_c_err(-BCH_ERR_ENOENT_inode);", True),
        ("ret = -EROFS;", False),
        ("ret\t\t= -BCH_ERR_ENOENT_inode;", True),
        ("path->l[0].b = ERR_PTR(-BCH_ERR_no_btree_node_up);", True),
        ("mapping_set_error(fi.folio->mapping, -EIO);", False),
        ("ec_stripe_new_cancel(c, h, -BCH_ERR_erofs_no_writes);", True),
        ("return -EIO; /* was: if (x) return -EINVAL */", False),
        ('return log("say", -EIO);', False),
    ],
)
def test_a_statement_that_makes_an_error(line: str, private: bool) -> None:
    assert error_lines(f"int f(void)\n{{\n\tif (x)\n\t\t{line}\n}}\n") == [ErrorLine(4, private)]


@pytest.mark.parametrize(
    "line",
    [
        "int ret = -ENOMEM;",
        "long long_ret = -ENOMEM;",
        "struct foo *p = ERR_PTR(-ENOMEM);",
        "return x ? -EINVAL : 0;",
        "return ret ?: -BCH_ERR_transaction_restart_nested;",
        "? -BCH_ERR_fsck_fix",
        ": -BCH_ERR_fsck_ignore;",
        "if (x) return -EIO;",
        "while (ret == -EBUSY);",
        "} while (ret == -EBUSY);",
        "done = ret != -BCH_ERR_fsck_fix;",
        "case -BCH_ERR_fsck_fix:",
        "err_on(bad, -BCH_ERR_btree_node_read_err_fixable,",
        "/* return -EINVAL; */",
        'pr_err("return -EINVAL;");',
        "#define fail return -EINVAL;",
        "std_err = parents[std_err - BCH_ERR_START];",
        "x = a - ENOMEM;",
        "return bch2_err_matches(ret, BCH_ERR_ENOENT);",
    ],
)
def test_a_line_that_runs_without_an_error(line: str) -> None:
    assert numbers(f"int f(void)\n{{\n\t{line}\n}}\n") == []


def test_the_rest_of_a_statement_is_none() -> None:
    assert numbers("int f(void)\n{\n\tret = g(x,\n\t\t-EINVAL);\n\tret = g(x) ?:\n\t\t-EINVAL;\n}\n") == []


def test_a_macro_of_several_lines_is_none() -> None:
    assert numbers(
        "#define fail() \\\ndo { \\\n\treturn -EINVAL; \\\n} while (0)\nint f(void)\n{\n\treturn -EIO;\n}\n"
    ) == [7]


def test_comments_and_strings_keep_their_lines() -> None:
    assert numbers('/* one\n   two "\n */\nchar *s = "x\\"y";\nint f(void)\n{\n\treturn -EIO;\n}\n') == [7]


def test_after_a_label_and_an_else() -> None:
    source = "int f(void)\n{\n\tif (a)\n\t\tg();\n\telse\n\t\tret = -EIO;\nerr:\n\tret = -EINVAL;\n}\n"
    assert numbers(source) == [6, 8]
