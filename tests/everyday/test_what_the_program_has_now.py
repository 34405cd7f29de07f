"""Code that is sent is what the program has now, wherever it is reached from."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.everyday.running import run

pytestmark = pytest.mark.real


def test_a_rebound_global_is_seen_wherever_it_is_read(tmp_path: Path) -> None:
    """Row 1. Own inputs: a default of a helper, an attribute of a class, a nested function, a
    generator, a global that did not exist, a deleted one, an instance's attribute, a small dict that
    is changed in place."""
    run(
        tmp_path,
        """
        import functools, operator
        import stealmesh

        K = 1
        TABLE = {"k": 1}
        def plain(x): return x + K
        def comprehension(x): return [x + K for _ in range(1)][0]
        late = lambda x: x + K
        def decorate(f):
            @functools.wraps(f)
            def wrapper(x): return f(x)
            return wrapper
        @decorate
        def decorated(x): return x + K
        def two(x, y): return x + K
        part = functools.partial(two, y=0)
        class Adder:
            def __init__(self): self.bonus = 0
            def __call__(self, x): return x + K + self.bonus
            def method(self, x): return x + K
        def helper(x): return deeper(x)
        def deeper(x): return x + K
        def through_helper(x): return helper(x)
        def generated(x): return next(y + K for y in [x])
        def nested(x):
            def inside(): return x + K
            return inside()
        class Holder:
            value = 1
            def get(self): return self.value
        def of_class(x): return x + Holder.value
        def of_instance(x): return x + Holder().get()
        def of_table(x): return x + TABLE["k"]
        adder = Adder()
        def of_adder(x): return adder(x)
        def absent(x):
            try:
                return x + LATER
            except NameError:
                return x + 1

        functions = [plain, comprehension, late, decorated, part, adder, adder.method,
                     Adder().method, through_helper, generated, nested, of_class, of_instance,
                     of_table, of_adder, absent, functools.partial(helper), Adder()]

        if __name__ == "__main__":
            with stealmesh.Mesh(workers=1) as mesh:
                for now in (1, 2, 3, 1):
                    K = now
                    Holder.value = now
                    TABLE["k"] = now
                    if now > 1:
                        LATER = now
                    elif "LATER" in globals():
                        del LATER
                    for f in functions:
                        for _ in range(2):
                            got = mesh.submit(f, 10).result()
                            assert got == 10 + now, (f, now, got)
                        got = list(mesh.map(f, [10, 10]))
                        assert got == [10 + now] * 2, (f, now, got, "map")
                    total = mesh.map_reduce(comprehension, [10, 10], operator.add).result()
                    assert total == 20 + 2 * now
                adder.bonus = 7
                assert mesh.submit(adder, 10).result() == 18
                assert mesh.submit(of_adder, 10).result() == 18
        """,
    )


def test_redefined_helpers_and_edited_classes_are_sent_anew(tmp_path: Path) -> None:
    """Row 2, and its like: a class made again, a method replaced, a method set on the class, a
    decorator's inner function, code replaced in place as IPython's autoreload does."""
    run(
        tmp_path,
        """
        import stealmesh

        def helper(x): return ("old", x)
        def task(x): return helper(x)
        class Tool:
            def use(self, x): return ("old", x)
            @staticmethod
            def still(x): return ("old", x)
            @property
            def prop(self): return "old"
        def by_tool(x): return Tool().use(x)
        def by_still(x): return Tool.still(x)
        def by_prop(x): return (Tool().prop, x)
        tasks = [task, by_tool, by_still, by_prop]

        with stealmesh.Mesh(workers=1) as mesh:
            for f in tasks:
                assert mesh.submit(f, 1).result() == ("old", 1), f
            source = 'def helper(x): return ("new", x)'
            exec(compile(source, "<cell 2>", "exec"), globals())
            Tool.use = lambda self, x: ("new", x)
            Tool.still = staticmethod(lambda x: ("new", x))
            Tool.prop = property(lambda self: "new")
            for f in tasks:
                assert mesh.submit(f, 1).result() == ("new", 1), f
                assert list(mesh.map(f, [1])) == [("new", 1)], f
            cell = '''
        class Tool:
            def use(self, x): return ("third", x)
            @staticmethod
            def still(x): return ("third", x)
            prop = "third"
        '''
            import textwrap
            exec(compile(textwrap.dedent(cell), "<cell 3>", "exec"), globals())
            helper.__code__ = (lambda x: ("third", x)).__code__
            for f in tasks:
                assert mesh.submit(f, 1).result() == ("third", 1), f
            def again(x): return helper(x)
            assert mesh.submit(again, 1).result() == ("third", 1)
        """,
    )


def test_variables_of_the_programs_modules_are_those_of_the_program(tmp_path: Path) -> None:
    """Of row 1's kind, in another module: `settings.LIMIT = 5` before the first submit and after it;
    what the module keeps for itself (`global`) stays each process's own."""
    from tests.everyday.running import write

    write(
        tmp_path,
        settings="""
            LIMIT = 1
            OPTIONS = {"a": 1}
            """,
        tools="""
            import settings
            from settings import OPTIONS
            _client = None
            def client():
                global _client
                if _client is None:
                    _client = object()
                return _client
            def limit(_): return settings.LIMIT
            def option(_): return OPTIONS["a"]
            def connected(_): return client() is client()
            """,
    )
    run(
        tmp_path,
        """
        import stealmesh, settings, tools
        def here(_): return settings.LIMIT
        if __name__ == "__main__":
            tools.client()
            settings.LIMIT = 2
            settings.OPTIONS["a"] = 2
            with stealmesh.Mesh(workers=1) as mesh:
                for now in (2, 3):
                    settings.LIMIT = now
                    settings.OPTIONS["a"] = now
                    for f in (tools.limit, here, tools.option, lambda _: tools.limit(_)):
                        got = mesh.submit(f, 0).result()
                        assert got == now, (f, got, now)
                assert mesh.submit(tools.connected, 0).result()
        """,
    )


def test_what_cannot_be_sent_and_was_rebound_is_an_error(tmp_path: Path) -> None:
    """Never an old value: a global that cannot be pickled and is not what the file says."""
    run(
        tmp_path,
        """
        import stealmesh, threading
        lock = threading.Lock()
        stream = open(__file__)
        connection = iter(()).__class__ and (x for x in [1])
        def fine(_):
            with lock: return 1
        def broken(_): return next(connection)
        if __name__ == "__main__":
            connection = (x for x in [2])
            with stealmesh.Mesh(workers=1) as mesh:
                assert mesh.submit(fine, 0).result() == 1
                try:
                    mesh.submit(broken, 0).result()
                except stealmesh.CannotShip as error:
                    assert "connection" in str(error), error
                else:
                    raise AssertionError("an old value")
        """,
    )


HELPER = """
    import argparse, functools, types
    from math import sqrt
    args = None
    settings = types.SimpleNamespace(rate="old")
    connection = None
    class Config:
        rate = "old"
        names = ["old"]
    class Settings:
        def __init__(self): self.rate = "old"
    conf = Settings()
    class Box:
        def get(self): return "old"
        @property
        def prop(self): return "old" if Config.rate == "old" else "new"
        @classmethod
        def rated(cls): return Config.rate
    class Sub(Box): pass
    the_box = Box()
    def look(): return "old"
    alias = look
    @functools.singledispatch
    def single(x=1): return Config.rate
    @functools.lru_cache
    def cached(): return Config.rate
    def decorate(f):
        @functools.wraps(f)
        def g(): return f()
        return g
    @decorate
    def decorated(): return Config.rate
    def of_args(): return "old" if args is None else args.x
    def of_settings(): return settings.rate
    def of_conf(): return conf.rate
    def of_config(): return Config.rate
    def of_names(): return Config.names[-1]
    def of_box(): return Box().get()
    def of_sub(): return Sub().get()
    def of_look(): return look()
    def of_alias(): return alias()
    def of_sqrt(): return "old" if sqrt(4.0) == 2.0 else "new"
    def of_added(): return globals().get("added", "old")
    def of_fresh(): return getattr(Config, "fresh", "old")
    def own_connection(): return connection
    """
CHANGES = """
    import argparse, contextlib, helper
    @contextlib.contextmanager
    def all_new():
        "Everything in the module is new, and then as it was."
        def get(*_): return "new"
        new = get
        changes = [
            (helper, "args", argparse.Namespace(x="new")), (helper, "look", new), (helper, "alias", new),
            (helper, "sqrt", new), (helper.Config, "rate", "new"), (helper.settings, "rate", "new"),
            (helper.conf, "rate", "new"), (helper.Box, "get", new), (helper, "added", "new"),
            (helper.Config, "fresh", "new"), (helper.Config, "names", ["new"]),
        ]
        old = [(where, name, vars(where).get(name, all_new)) for where, name, _ in changes]
        for where, name, value in changes:
            setattr(where, name, value)
        yield
        for where, name, value in old:
            delattr(where, name) if value is all_new else setattr(where, name, value)
    """
DIRECT = [
    "of_args", "of_settings", "of_conf", "of_config", "of_names", "of_box", "of_sub", "of_look", "of_alias",
    "of_sqrt", "of_fresh", "decorated", "Box.rated", "the_box.get",
]  # fmt: skip


@pytest.mark.parametrize("first", ["old", "new"])
def test_what_differs_from_the_import_of_a_module_goes_along(tmp_path: Path, first: str) -> None:
    """A program sets variables, functions, classes, attributes and objects of its own modules, also before
    the first submit, and sets them back. Seen by a function that is submitted itself, and by one that
    is an argument."""
    from tests.everyday.running import write

    write(tmp_path, helper=HELPER, changes=CHANGES)
    run(
        tmp_path,
        f"""
        import operator, contextlib
        import stealmesh, helper, changes
        def call(f): return f()
        def check(mesh, right):
            for name in {DIRECT}:
                task = operator.attrgetter(name)(helper)
                assert mesh.submit(task).result() == right, (name, right)
                assert mesh.submit(call, task).result() == right, ("as an argument", name, right)
        if __name__ == "__main__":
            with stealmesh.Mesh(workers=1) as mesh:
                for now in ("old", "new", "old", "new")[{first == "new":d}:]:
                    with changes.all_new() if now == "new" else contextlib.nullcontext():
                        check(mesh, now)
        """,
    )


@pytest.mark.parametrize(
    "way", ["argument", "map", "reduce", "deep", "partial", "single", "object"]
)
def test_an_argument_brings_along_what_it_reaches(tmp_path: Path, way: str) -> None:
    """A function of one of the program's modules, an object of its classes: the variables that they
    reach are the program's, although no submitted function names them. Each way on a mesh of its own:
    what another task brought would hide the fault."""
    from tests.everyday.running import write

    write(
        tmp_path,
        helper="""
            import functools
            held = None
            def look(): return held
            @functools.singledispatch
            def single(x): return held
            class Box:
                def __init__(self, n=0): self.n = n
                def get(self): return held
                @property
                def prop(self): return held
            class Sub(Box): pass
            """,
    )
    run(
        tmp_path,
        f"""
        import functools
        import stealmesh, helper
        def call(f): return f()
        def one(f): return f(1)
        def deep(*, f): return f["x"][0]()
        def get(box): return (box.get(), box.prop)[0]
        ways = dict(
            argument=lambda mesh: mesh.submit(call, helper.look).result(),
            map=lambda mesh: [*mesh.map(get, map(helper.Sub, range(3))), *mesh.map(call, [helper.look])][-2],
            reduce=lambda mesh: mesh.map_reduce(get, [helper.Box(n) for n in range(3)], max).result(),
            deep=lambda mesh: mesh.submit(deep, f={{"x": [helper.look]}}).result(),
            partial=lambda mesh: mesh.submit(call, functools.partial(helper.look)).result(),
            single=lambda mesh: mesh.submit(one, helper.single).result(),
            object=lambda mesh: mesh.submit(call, helper.Box(1).get).result(),
        )
        if __name__ == "__main__":
            with stealmesh.Mesh(workers=1) as mesh:
                for now in (1, 2):
                    helper.held = now
                    assert ways["{way}"](mesh) == now, now
        """,
    )


def test_a_replaced_function_that_cannot_be_sent_is_an_error(tmp_path: Path) -> None:
    """What takes the place of a function must not be passed over in silence. A connection that program and
    workers open for themselves is left alone."""
    from tests.everyday.running import write

    write(tmp_path, helper=HELPER)
    run(
        tmp_path,
        """
        import functools, stealmesh, helper, threading
        from unittest import mock
        def begin(): helper.connection = "a worker's"
        if __name__ == "__main__":
            helper.connection = threading.Lock()
            with stealmesh.Mesh(workers=1, initializer=begin) as mesh:
                assert mesh.submit(helper.own_connection).result() == "a worker's"
                with mock.patch("helper.look", functools.partial(print, threading.Lock())):
                    try:
                        mesh.submit(helper.of_look).result()
                    except stealmesh.CannotShip as error:
                        assert "helper.look" in str(error), error
                    else:
                        raise AssertionError("the function that was there before")
                assert mesh.submit(helper.of_look).result() == "old"
        """,
    )


def test_tables_slots_and_classes_inside_of_classes_go_along_too(tmp_path: Path) -> None:
    """Found by more inputs of the same kind: a table of functions, a counter, an object with slots, an
    object of a class whose base has changed, a class in a class, an array, a partial."""
    from tests.everyday.running import write

    write(
        tmp_path,
        helper="""
            import collections, functools
            import numpy as np
            held = "old"
            class Outer:
                class Inner:
                    rate = "old"
            class Slots:
                __slots__ = ("rate",)
                def __init__(self): self.rate = "old"
            slots = Slots()
            class Base:
                limit = "old"
            class Child(Base): pass
            child = Child()
            def look(): return held
            table = {"f": look}
            counter = collections.Counter(["old"])
            array = np.zeros(3)
            part = functools.partial(str, "old")
            def of_inner(): return Outer.Inner.rate
            def of_slots(): return slots.rate
            def of_child(): return child.limit
            def of_table(): return table["f"]()
            def of_counter(): return counter.most_common(1)[0][0]
            def of_array(): return "new" if array[0] else "old"
            def of_part(): return part()
            """,
    )
    run(
        tmp_path,
        """
        import functools
        import numpy as np
        import stealmesh, helper
        def call(f): return f()
        def set_all(now):
            helper.Outer.Inner.rate = helper.slots.rate = helper.Base.limit = helper.held = now
            helper.counter[now] += 2
            helper.array = np.full(3, now == "new")
            helper.part = functools.partial(str, now)
        if __name__ == "__main__":
            for first in ("old", "new"):
                set_all(first)
                with stealmesh.Mesh(workers=1) as mesh:
                    for now in (first, "new", "old"):
                        helper.counter.clear()
                        set_all(now)
                        for f in [f for name, f in vars(helper).items() if name.startswith("of_")]:
                            assert mesh.submit(f).result() == now, (f, now)
                            assert mesh.submit(call, f).result() == now, ("as an argument", f, now)
        """,
    )
