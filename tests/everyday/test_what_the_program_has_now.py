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
