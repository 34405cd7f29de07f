"""Drives mypyc: types, two changes to what the type checker found, and C.

mypyc believes what mypy infers, and that is not always what Python does:

* mypy takes `self.x is not None` to hold until something is assigned to `self.x` in sight. If a call in between
  sets it to None, a second `if self.x is not None` is False in Python. Compiled code takes the value for what mypy
  says, and raises TypeError before it can ask. So what is asked for None, or for its truth, gets its declared type back.
* A field that a descendant makes a property stays a field for those who know the ancestor alone. Such code is refused:
  because of one such property no item that needed a value ever began.
* A native class cannot have descendants that stay Python unless it says so, and no exception is one. Both are said here, and
  not in the sources (what.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from mypy.build import BuildResult
from mypy.errors import CompileError
from mypy.fscache import FileSystemCache
from mypy.nodes import (
    ARG_NAMED,
    CallExpr,
    ClassDef,
    ComparisonExpr,
    ConditionalExpr,
    Decorator,
    Expression,
    IfStmt,
    MemberExpr,
    MypyFile,
    NameExpr,
    Node,
    OpExpr,
    OverloadedFuncDef,
    UnaryExpr,
    Var,
    WhileStmt,
)
from mypy.types import Instance, NoneType, Type, UnionType, get_proper_type
from mypyc.build import construct_groups, get_mypy_config, mypycify
from mypyc.codegen import emitmodule
from mypyc.errors import Errors
from mypyc.options import CompilerOptions
from setuptools import Extension

from what import ANCESTORS, modules, source_of

GROUP = "stealmesh_fast"
STRUCT = "msgspec.Struct"
INSIDE = ("defs", "func", "items", "body", "else_body", "handlers", "finally_body")
"""Where statements have statements."""


def extensions(build: Path) -> list[Extension]:
    """All that is to be compiled: one library, and for each module a small file that opens it."""
    options = CompilerOptions(multi_file=True, target_dir=str(build), group_name=GROUP)
    told = ["--config-file", str(Path(__file__).with_name("mypy.ini"))]
    told += [str(source_of(module)) for module in modules()]
    made = mypycify(
        told, skip_cgen_input=_to_c(told, options), multi_file=True, target_dir=str(build),
        group_name=GROUP, opt_level="1", debug_level="0",
    )  # fmt: skip
    for each in made:
        each.name = f"stealmesh_fast.{each.name}"
    return made


def _to_c(
    told: list[str], options: CompilerOptions
) -> tuple[list[list[tuple[str, str]]], list[tuple[str, list[str], bool]]]:
    """What mypyc.build.generate_c does, with our changes after the types are known."""
    cache = FileSystemCache()
    compiled, everything, mypy_options = get_mypy_config(told, None, options, cache)
    groups = construct_groups(compiled, False, True, GROUP)
    try:
        result = emitmodule.parse_and_typecheck(everything, mypy_options, options, groups, cache)
    except CompileError as error:
        sys.exit("\n".join(error.messages))
    if result.errors:
        sys.exit("\n".join(result.errors))
    errors = Errors(mypy_options)
    names = {source.module for source in compiled}
    trees = [state.tree for name, state in result.graph.items() if name in names and state.tree]
    widened = widen(trees, result.types)
    opened = {name for tree in trees for name in open_classes(tree)}
    if opened != ANCESTORS:
        sys.exit(f"what.py names classes that are not there: {', '.join(ANCESTORS - opened)}")
    print(f"{len(names)} modules; {widened} fields are asked for None where mypy knows better")
    if hidden := sorted(hidden_descendants(result, names)):
        sys.exit(f"structs with descendants, which isinstance would not know: {', '.join(hidden)}")
    if hidden := sorted(each for tree in trees for each in hidden_fields(tree)):
        sys.exit(
            f"properties in place of fields, which those who read the field miss: {', '.join(hidden)}"
        )
    ir, ctext, _ = emitmodule.compile_modules_to_c(
        result, compiler_options=options, errors=errors, groups=groups
    )
    if errors.num_errors:
        sys.exit("\n".join(errors.new_messages()))
    sources = sorted(emitmodule.collect_source_dependencies(ir), key=lambda each: each.path)
    return ctext, [(each.path, each.include_dirs, each.internal) for each in sources]


# ---------------------------------------------------------------- what is asked for None


def widen(trees: list[MypyFile], types: dict[Expression, Type]) -> int:
    """Gives fields that are asked for None, or for their truth, their declared types. Returns how many."""
    asked = [part for tree in trees for part in _conditions(tree)]
    asked += (part for each in types for part in _asked_in(each))
    return sum(_widened(each, types) for each in asked if isinstance(each, MemberExpr))


def _conditions(node: object) -> Iterator[Expression]:
    """What the statements in this node, and in those inside it, ask for."""
    if isinstance(node, IfStmt):
        yield from node.expr
    elif isinstance(node, WhileStmt):
        yield node.expr
    for name in INSIDE:
        inner = getattr(node, name, None)
        for each in inner if isinstance(inner, list) else (inner,):
            if isinstance(each, Node):
                yield from _conditions(each)


def _asked_in(node: Expression) -> Iterator[Expression]:
    """What an expression asks for."""
    if isinstance(node, ConditionalExpr):
        yield node.cond
    elif isinstance(node, OpExpr) and node.op in ("and", "or"):
        yield node.left
        yield node.right
    elif isinstance(node, UnaryExpr) and node.op == "not":
        yield node.expr
    elif isinstance(node, ComparisonExpr):
        for operator, left, right in zip(
            node.operators, node.operands, node.operands[1:], strict=False
        ):
            if operator in ("is", "is not") and _is_none(right):
                yield left


def _is_none(node: Expression) -> bool:
    return isinstance(node, NameExpr) and node.fullname == "builtins.None"


def _widened(field: MemberExpr, types: dict[Expression, Type]) -> bool:
    owner, found = get_proper_type(types.get(field.expr)), types.get(field)
    if found is None or not isinstance(owner, Instance) or _has_none(found):
        return False
    declared = owner.type.get(field.name)
    if declared is None or not isinstance(declared.node, Var) or declared.node.type is None:
        return False
    if not _has_none(declared.node.type):
        return False
    types[field] = declared.node.type
    return True


def _has_none(told: Type) -> bool:
    proper = get_proper_type(told)
    return isinstance(proper, UnionType) and any(
        isinstance(get_proper_type(each), NoneType) for each in proper.items
    )


# ---------------------------------------------------------------- classes with descendants


def hidden_descendants(result: BuildResult, names: set[str]) -> Iterator[str]:
    """Structs in these modules with descendants anywhere: compiled, isinstance compares their types alone."""
    for state in result.graph.values():
        for each in state.tree.defs if state.tree else ():
            if isinstance(each, ClassDef):
                for base in each.info.mro[1:]:
                    if base.module_name in names and any(
                        above.fullname == STRUCT for above in base.mro
                    ):
                        yield base.fullname


def hidden_fields(tree: MypyFile) -> Iterator[str]:
    """Properties in this tree that stand for a field of an ancestor: who knows the ancestor alone reads the field, and
    finds what it was at first."""
    classes = (each for each in tree.defs if isinstance(each, ClassDef))
    for each in classes:
        for name, own in each.info.names.items():
            if _is_property(own.node):
                above = [base.names[name].node for base in each.info.mro[1:] if name in base.names]
                if any(isinstance(node, Var) for node in above):
                    yield f"{each.fullname}.{name}"


def _is_property(node: object) -> bool:
    if isinstance(node, OverloadedFuncDef):  # with a setter
        return node.is_property
    return isinstance(node, Decorator) and node.func.is_property


def open_classes(tree: MypyFile) -> Iterator[str]:
    """Lets the classes of this tree that are named in what.py have descendants in Python."""
    for each in tree.defs:
        if isinstance(each, ClassDef) and each.fullname in ANCESTORS:
            attribute, true = NameExpr("mypyc_attr"), NameExpr("True")
            attribute.fullname, true.fullname = "mypy_extensions.mypyc_attr", "builtins.True"
            each.decorators.append(
                CallExpr(attribute, [true], [ARG_NAMED], ["allow_interpreted_subclasses"])
            )
            yield each.fullname
