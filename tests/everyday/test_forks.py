"""A forked child of the program is not the program: it ends by itself, and touches no node of the parent's."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from tests.everyday.programs import FORKS_ARE_MEANT, is_alive, run, start
from tests.patience import until

pytestmark = pytest.mark.real

CHILDREN = {
    "only exits": "sys.exit(7)",
    "raises": "raise SystemExit('7')",
    "leaves the block": "mesh.__exit__(None, None, None); sys.exit(7)",
    "shuts down": "mesh.shutdown(); sys.exit(7)",
    "shuts down in the background": "mesh.shutdown(wait=False, cancel_futures=True); sys.exit(7)",
    "forgets it": "del mesh, waiting, it; gc.collect(); sys.exit(7)",
    "closes what it reads": "it.close(); sys.exit(7)",
    "reads on": "raised(lambda: list(it)); sys.exit(7)",
    "waits": "raised(waiting.result); sys.exit(7)",
    "waits with others": "cf.wait([waiting]); raised(waiting.result); sys.exit(7)",
    "cancels": "waiting.cancel(); sys.exit(7)",
    "submits": "raised(lambda: mesh.submit(pow, 2, 3)); sys.exit(7)",
    "submits another": "raised(lambda: mesh.submit(abs, 2)); sys.exit(7)",
    "maps": "raised(lambda: list(mesh.map(pow, [2], [3]))); sys.exit(7)",
    "reduces": "raised(lambda: mesh.map_reduce(abs, [1], min).result()); sys.exit(7)",
    "asks": "raised(mesh.status); raised(lambda: mesh.address); raised(lambda: mesh.key_file); raised(mesh.jobs); sys.exit(7)",
    "makes its own": "assert stealmesh.Mesh(workers=1).submit(pow, 2, 5).result() == 32; sys.exit(7)",
    "forks again": "os.waitpid(os.fork() or sys.exit(3), 0); sys.exit(7)",
    "becomes another": "os.execvp('sh', ['sh', '-c', 'exit 7'])",
}


def test_what_a_forked_child_does_is_its_own_business(tmp_path: Path) -> None:
    """Row 18: the child hung at its exit, and after 6 s it killed the parent's node."""
    done = run(
        f"""
        import concurrent.futures as cf, gc, os, sys, time, stealmesh
        def raised(call):
            try:
                call()
            except stealmesh.MeshClosed as error:
                assert f"process {{parent}}" in str(error) and "after the fork" in str(error), error
            else:
                print("no error", flush=True)
        def later(x, flag):
            while not os.path.exists(flag):
                time.sleep(0.005)
            return x
        parent = os.getpid()
        mesh = stealmesh.Mesh(nodes=2, workers=1)
        assert mesh.submit(pow, 2, 3).result() == 8
        nodes = sorted(n["pid"] for n in mesh.status()["nodes"])
        for what, action in {CHILDREN!r}.items():
            told = []
            waiting = mesh.submit(later, 5, os.path.abspath(what))
            waiting.add_done_callback(lambda f: told.append(os.write(1, b"told ")))
            it = mesh.map(abs, range(1000), buffersize=4)
            assert next(it) == 0
            child = os.fork()
            if child == 0:
                exec(action)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            open(what, "w").close()
            assert waiting.result() == 5 and next(it) == 1 and mesh.submit(abs, -4).result() == 4
            it.close()
            while not told:
                time.sleep(0.001)
            print(what, status, flush=True)
        assert sorted(n["pid"] for n in mesh.status()["nodes"]) == nodes
        mesh.shutdown()
        """,
        tmp_path,
        flags=[FORKS_ARE_MEANT],
    )
    printed = done.stdout.splitlines()
    wanted = [f"told {what} {1 if what == 'raises' else 7}" for what in CHILDREN]
    assert printed == wanted, (done.stdout, done.stderr)
    assert done.stderr == "7\n"


@pytest.mark.parametrize("end", ["shutdown", "exit", "kill -9", "exec"])
def test_the_nodes_end_with_the_program_though_its_child_lives(tmp_path: Path, end: str) -> None:
    """Row 19: a child holds copies of all descriptors, so no end of file tells that the program is gone."""
    ends = {
        "shutdown": "mesh.shutdown()",
        "exit": "sys.exit()",
        "kill -9": "os.kill(os.getpid(), 9)",
        "exec": "os.execvp('true', ['true'])",
    }
    program = start(
        f"""
        import ctypes, os, signal, sys, time, stealmesh
        mesh = stealmesh.Mesh(nodes=2, workers=1)
        mesh.submit(pow, 2, 3).result()
        pids = []
        while len(pids) < 4:
            pids = [p for n in mesh.status()["nodes"] if n["worker_pids"] for p in (n["pid"], *n["worker_pids"])]
        children = []
        for fork in (os.fork, ctypes.CDLL(None).fork):  # libraries in C fork without telling Python
            child = fork()
            if child == 0:
                for number in (1, 2):
                    os.close(number)
                while True:
                    signal.pause()
            children.append(child)
        print(*children, flush=True)
        print(*pids, flush=True)
        sys.stdin.readline()
        began = time.monotonic()
        if {end!r} != "shutdown":
            mesh.submit(time.sleep, 0)
        {ends[end]}
        print(time.monotonic() - began, flush=True)
        """,
        tmp_path,
    )
    assert program.stdin is not None
    assert program.stdout is not None
    children = [int(word) for word in program.stdout.readline().split()]
    try:
        pids = [int(word) for word in program.stdout.readline().split()]
        assert len(pids) >= 4
        assert all(map(is_alive, pids))
        program.stdin.write("\n")
        program.stdin.flush()
        began = time.monotonic()
        until(lambda: not any(map(is_alive, pids)))
        print(f"{end}: gone after {time.monotonic() - began:.2f} s")
        program.wait(60)
        assert all(map(is_alive, children)), "the children are nobody's business"
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
        program.stdin.close()
        program.stdout.close()
        program.wait(60)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_beside_a_mesh(tmp_path: Path, method: str) -> None:
    """Pools in the program and in tasks, made before and after the mesh."""
    done = run(
        f"""
        import multiprocessing, os, stealmesh
        def work(pool):
            return sum(pool.map(abs, range(-10, 0)))
        def in_task(method):
            with multiprocessing.get_context(method).Pool(2) as pool:
                return work(pool)
        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
            with context.Pool(2) as before, stealmesh.Mesh(workers=2) as mesh, context.Pool(2) as after:
                print(work(before), work(after), mesh.submit(pow, 2, 3).result())
                print([mesh.submit(in_task, {method!r}).result(timeout=80) for _ in range(2)])
        """,
        tmp_path,
        flags=[FORKS_ARE_MEANT],
    )
    assert done.stdout == "55 55 8\n[55, 55]\n", done.stderr
    assert done.stderr == ""


def test_forks_in_many_threads_while_results_come(tmp_path: Path) -> None:
    """A fork copies whatever lock another thread holds at that moment; no child may wait for one."""
    done = run(
        """
        import os, sys, threading, stealmesh
        mesh = stealmesh.Mesh(workers=2)
        over = threading.Event()
        def submit():
            while not over.is_set():
                assert sum(f.result() for f in [mesh.submit(abs, i) for i in range(50)]) == 1225
        threads = [threading.Thread(target=submit) for _ in range(2)]
        for thread in threads:
            thread.start()
        old = mesh.submit(abs, -3)
        assert old.result() == 3
        statuses = set()
        for number in range(40):
            pending = mesh.submit(abs, -9)
            child = os.fork()
            if child == 0:
                try:
                    assert old.result() == 3 and old.done()
                    try:
                        assert pending.result() == 9
                    except stealmesh.MeshClosed:
                        pass
                    try:
                        mesh.submit(abs, 1)
                    except stealmesh.MeshClosed:
                        mesh.shutdown()
                        os._exit(7)
                finally:
                    os._exit(1)
            statuses.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            assert pending.result() == 9
        over.set()
        for thread in threads:
            thread.join()
        mesh.shutdown()
        print(statuses)
        """,
        tmp_path,
    )
    assert done.stdout == "{7}\n", done.stderr


def test_a_fork_beside_a_reduction_a_map_and_somebody_who_waits(tmp_path: Path) -> None:
    """Each is disowned before it can ask the parent's mesh for anything."""
    done = run(
        """
        import concurrent.futures as cf, os, threading, time, stealmesh
        def later(x):
            while not os.path.exists("go"):
                time.sleep(0.005)
            return x
        parent = os.getpid()
        told = []
        mesh = stealmesh.Mesh(workers=1)
        first = mesh.submit(later, 1)
        value = mesh.map_reduce(abs, range(1000), max)
        read = mesh.map_reduce(abs, iter(range(1000)), max)
        seen = mesh.map(abs, range(1000), buffersize=4)
        for future in (first, value, read):
            future.add_done_callback(lambda f: told.append(os.getpid() == parent))
        waiter = threading.Thread(
            target=lambda: cf.wait([first, value], return_when=cf.FIRST_EXCEPTION)
        )
        waiter.start()
        time.sleep(0.1)
        child = os.fork()
        if child == 0:
            for future in (first, value, read):
                assert isinstance(future.exception(), stealmesh.MeshClosed)
            value.cancel()
            seen.close()
            mesh.shutdown()
            assert stealmesh.Mesh(workers=1).map_reduce(abs, range(5), max).result() == 4
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        open("go", "w").close()
        print(first.result(), value.result(), read.result(), len([next(seen) for _ in range(4)]))
        waiter.join()
        mesh.shutdown()
        print(told)
        """,
        tmp_path,
        flags=[FORKS_ARE_MEANT],
    )
    assert done.stdout == "7\n1 999 999 4\n[True, True, True]\n", (done.stdout, done.stderr)
    assert not done.stderr
