"""A class of the program's file is what the program has made of it until now."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.everyday.running import finish, run, write

pytestmark = pytest.mark.real


def test_classes_inside_of_classes_are_seen(tmp_path: Path) -> None:
    """An attribute, a method at any depth, another class in its place, a class where there was none; and back."""
    run(
        tmp_path,
        """
        import stealmesh

        class Other:
            z = 7
            class Deep:
                def get(self): return 7
        class Outer:
            class Inner:
                z = 4
                class Deep:
                    def get(self): return 4
                    def still(self): return 0
            kind = int
        def attribute(): return Outer.Inner.z
        def method(): return Outer.Inner.Deep().get()
        def kind(): return Outer.kind
        first, get = Outer.Inner, Outer.Inner.Deep.get
        def all_of(mesh): return [mesh.submit(f).result() for f in (attribute, method, kind)]

        with stealmesh.Mesh(workers=1) as mesh:
            assert all_of(mesh) == [4, 4, int]
            Outer.Inner.z, Outer.kind = 99, str
            Outer.Inner.Deep.get = lambda self: 99
            assert all_of(mesh) == [99, 99, str], all_of(mesh)
            Outer.Inner.Deep.get = get
            assert all_of(mesh) == [99, 4, str], all_of(mesh)
            Outer.Inner = Other
            assert all_of(mesh) == [7, 7, str], all_of(mesh)
            Outer.Inner = first
            Outer.kind = int
            assert all_of(mesh) == [99, 4, int], all_of(mesh)
        """,
    )


def test_attributes_that_are_deleted_are_gone(tmp_path: Path) -> None:
    """Of the text, of a class inside, a method, one that was set before; and they can come back. A worker that never
    had the change is left alone."""
    run(
        tmp_path,
        """
        import stealmesh

        class C:
            extra = 1
            made = object()
            __private = 1
            class Inner:
                extra = 1
            def method(self): pass
            def stays(self): pass
        def has():
            wanted = "extra made _C__private method stays added".split()
            return [each for each in wanted if hasattr(C, each)] + ["I"] * hasattr(C.Inner, "extra")
        everything = "extra made _C__private method stays I".split()
        made, method = C.made, C.method

        for _ in range(2):
            with stealmesh.Mesh(workers=1) as mesh:
                assert mesh.submit(has).result() == everything
                C.added = 1
                assert "added" in mesh.submit(has).result()
                del C.added, C.extra, C.made, C._C__private, C.method, C.Inner.extra
                assert mesh.submit(has).result() == ["stays"], mesh.submit(has).result()
                C.extra, C.made, C._C__private, C.method, C.Inner.extra = 1, made, 1, method, 1
                assert mesh.submit(has).result() == everything, mesh.submit(has).result()
        """,
    )


def test_descriptors_and_objects_that_are_added_are_seen(tmp_path: Path) -> None:
    """After the first submit and before it; objects in the place of plain data; and what was there before."""
    run(
        tmp_path,
        """
        import stealmesh, threading

        class D:
            def __init__(self, n): self.n = n
            def __get__(self, one, cls): return self.n
        class Thing:
            def __init__(self, n): self.n = n
        class H:
            empty = None
            lock = threading.Lock()
            written = D(1)
        class Early: pass
        Early.z, Early.lock = D(5), threading.Lock()
        def get(): return [getattr(H, each, None) for each in ("z", "written")]
        def thing(): return H.empty and H.empty.n
        def early(): return Early.z
        written = H.__dict__["written"]

        with stealmesh.Mesh(workers=1) as mesh:
            assert mesh.submit(early).result() == 5
            assert mesh.submit(get).result() == [None, 1]
            assert mesh.submit(thing).result() is None
            H.z, H.written, H.empty = D(2), D(3), Thing(4)
            assert mesh.submit(get).result() == [2, 3]
            assert mesh.submit(thing).result() == 4
            H.z, H.written, H.empty = D(6), written, threading.Lock()
            assert mesh.submit(get).result() == [6, 1]
        """,
    )


@pytest.mark.parametrize("first", ["old", "new"])
def test_other_bases_are_seen(tmp_path: Path, first: str) -> None:
    """Also those that were set before the first submit, and those of a class inside."""
    run(
        tmp_path,
        f"""
        import stealmesh

        class Old:
            def get(self): return "old"
        class New:
            def get(self): return "new"
        class B(Old):
            class Inner(Old): pass
        class Sub(B): pass
        def of_base(): return B().get()
        def of_sub(): return Sub().get()
        def of_inner(): return B.Inner().get()

        with stealmesh.Mesh(workers=1) as mesh:
            for now in ("old", "new", "old")[{first == "new":d}:]:
                B.__bases__ = B.Inner.__bases__ = (New if now == "new" else Old,)
                for f in (of_base, of_sub, of_inner):
                    assert mesh.submit(f).result() == now, (f, now)
        """,
    )


@pytest.mark.parametrize("first", [0, 1])
def test_another_docstring_is_seen(tmp_path: Path, first: int) -> None:
    run(
        tmp_path,
        f"""
        import stealmesh

        class C:
            '''As it was
               written.'''
        class Bare: pass
        def doc(): return C.__doc__, Bare.__doc__
        was = C.__doc__

        with stealmesh.Mesh(workers=1) as mesh:
            for now in [(was, None), ("new", "newer"), (None, None), (was, "")][{first}:]:
                C.__doc__, Bare.__doc__ = now
                assert mesh.submit(doc).result() == now, (mesh.submit(doc).result(), now)
        """,
    )


def test_methods_that_were_not_there_are_seen(tmp_path: Path) -> None:
    """With names of Python's own, from an installed module; what a decorator has made stays."""
    run(
        tmp_path,
        """
        import dataclasses, textwrap
        import stealmesh

        @dataclasses.dataclass
        class C:
            n: int = 1
            m: list = dataclasses.field(default_factory=list)
            def get(self): return self.n
        def decorated(cls):
            def __repr__(self): return "decorated"
            cls.__repr__ = __repr__
            return cls
        @decorated
        class R:
            def get(self): return 1
        def look():
            return C(2).get(), str(C(2)), getattr(C, "tidy", str)(" x"), repr(R()), C(1) == C(2)

        with stealmesh.Mesh(workers=1) as mesh:
            assert mesh.submit(look).result() == (2, "C(n=2, m=[])", " x", "decorated", False)
            C.__str__ = lambda self: "new"
            C.__eq__ = lambda self, other: True
            C.tidy = staticmethod(textwrap.dedent)
            assert mesh.submit(look).result() == (2, "new", "x", "decorated", True)
        """,
    )


def test_a_class_without_a_file_is_seen_too(tmp_path: Path) -> None:
    """From standard input, as from a notebook: there is no text to compare with."""
    program = """if True:
        import stealmesh
        class Old:
            def get(self): return "old"
        class New:
            def get(self): return "new"
        class B(Old):
            "doc"
            extra = 1
            def method(self): return 1
            class Inner:
                z = 4
        class D:
            def __get__(self, one, cls): return 5
        def look():
            return B().get(), hasattr(B, "extra"), hasattr(B, "method"), B.Inner.z, B.__doc__, hasattr(B, "d")
        with stealmesh.Mesh(workers=1) as mesh:
            assert mesh.submit(look).result() == ("old", True, True, 4, "doc", False)
            B.__bases__ = (New,)
            del B.extra, B.method
            B.Inner.z, B.__doc__, B.d = 99, "new", D()
            got = mesh.submit(look).result()
            assert got == ("new", False, False, 99, "new", True), got
        """
    finish(tmp_path, "-", stdin=program)


MODULE = """
    import collections, typing
    class Old:
        def get(self): return "old"
    class New:
        def get(self): return "new"
    class Point(typing.NamedTuple):
        x: int = 1
    class B(Old):
        "doc"
        extra = 1
        __private = 1
        empty = None
        made = object()
        slot: int
        def method(self): return 1
        class Inner(Old):
            extra = 1
    def look():
        there = [each for each in ("extra", "_B__private", "method", "d", "thing") if hasattr(B, each)]
        return [B().get(), B.Inner().get(), B.__doc__, *there, "I" * hasattr(B.Inner, "extra"), B.empty, Point(2).x]
    """


def test_classes_of_other_modules_are_seen_too(tmp_path: Path) -> None:
    """Bases, a docstring, descriptors and objects that were added, what was deleted; and back, on two meshes."""
    write(tmp_path, beside=MODULE)
    run(
        tmp_path,
        """
        import stealmesh, beside, threading
        from beside import B, New, Old
        class D:
            def __get__(self, one, cls): return 5
        def task(): return beside.look()
        def check(mesh, *right):
            for f in (task, beside.look):
                assert mesh.submit(f).result() == list(right), (mesh.submit(f).result(), right)
        method = B.method
        old = "old", "old", "doc", "extra", "_B__private", "method", "I", None, 2
        for _ in range(2):
            with stealmesh.Mesh(workers=1) as mesh:
                check(mesh, *old)
                B.__bases__ = B.Inner.__bases__ = (New,)
                B.__doc__, B.d, B.thing, B.empty, B.lock = "new", D(), object, D, threading.Lock()
                del B.extra, B._B__private, B.method, B.Inner.extra
                check(mesh, "new", "new", "new", "d", "thing", "", D, 2)
                B.__bases__ = B.Inner.__bases__ = (Old,)
                B.__doc__, B.empty, B.extra, B._B__private, B.Inner.extra = "doc", None, 1, 1, 1
                B.method = method
                del B.d, B.thing, B.lock
                check(mesh, *old)
        """,
    )


def test_code_that_asks_for_subclasses_finds_them(tmp_path: Path) -> None:
    """A registry of plugins. Those of the program's file, by a function and by a method; one that comes later; and
    nothing else comes along: the lock of a class that is no subclass stays."""
    run(
        tmp_path,
        """
        import stealmesh, threading
        class Base:
            @classmethod
            def names(cls): return sorted(c.__name__ for c in cls.__subclasses__())
        class S1(Base): pass
        class S2(Base): pass
        class Deep(S2): pass
        class Unrelated:
            lock = threading.Lock()
        def by_function(): return sorted(c.__name__ for c in Base.__subclasses__())
        def by_method(): return Base.names()
        def deep():
            def all_of(c): return {c} | {e for s in c.__subclasses__() for e in all_of(s)}
            return sorted(c.__name__ for c in all_of(Base))
        def made(): return "Unrelated" in globals()
        if __name__ == "__main__":
            with stealmesh.Mesh(workers=1) as mesh:
                for late in ([], ["S3"]):
                    if late:
                        class S3(Base): pass
                    for f in (by_function, by_method):
                        assert mesh.submit(f).result() == ["S1", "S2", *late], (f, mesh.submit(f).result())
                    assert mesh.submit(deep).result() == ["Base", "Deep", "S1", "S2", *late]
                assert not mesh.submit(made).result()
        """,
    )
