"""The registry: what @flow accepts, how flows are found by name, and how modules with flows are loaded."""

import functools
import importlib.util
import itertools
import subprocess
import sys
import textwrap
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

import ebbtide.flows
from ebbtide.errors import ConfigError, FlowNotFound, FlowRefused
from ebbtide.flows import FlowDefinition, Registry, flow, load_flows
from ebbtide.flows import registry as registry_module

COPY = """
from ebbtide.flows import flow

@flow("{name}")
def copy(source: str): ...
"""

_numbers = itertools.count()


@pytest.fixture
def registry(monkeypatch) -> Registry:
    """An empty registry in the place of this process's own, and no entry point of any package."""
    empty = Registry()
    monkeypatch.setattr(registry_module, "registered", empty)
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [])
    return empty


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module into a folder that becomes the current one; returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def write(text: str) -> str:
        name = f"flows_of_a_user_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        return name

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refusal(*modules: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_flows(modules)
    message = str(caught.value)
    assert message.isprintable()
    return message


# -- registering


def test_the_decorator_leaves_a_plain_function(registry):
    @flow("copy", 2, returns="copied")
    def copy(source):
        """Copy it."""
        return "made"

    definition = registry.get("copy")

    assert copy(1) == "made"
    assert definition.factory is copy
    assert (definition.name, definition.version, definition.returns) == ("copy", 2, "copied")
    assert (definition.key, definition.doc, repr(definition)) == (
        "copy@2",
        "Copy it.",
        "FlowDefinition(copy@2)",
    )


def test_a_registry_of_ones_own_has_a_decorator_too(registry):
    own = Registry()

    @own.flow("copy")
    def copy(): ...

    assert own.get("copy").factory is copy
    assert registry.definitions() == []


@pytest.mark.parametrize("name", ["a", "file-processing", "a.b_c-1", "a" * 100])
def test_a_name_of_lower_case_letters_digits_and_three_signs_is_accepted(registry, name):
    flow(name)(lambda: None)

    assert registry.get(name).name == name


@pytest.mark.parametrize(
    "name", ["", "A", "1a", "-a", "a b", "a/b", "../a", "a@1", "a\n", "ä", "a" * 101, None, 3, print]
)
def test_any_other_name_is_refused(registry, name):
    with pytest.raises(FlowRefused, match=r'registered as @flow\("name"\)'):
        flow(name)(lambda: None)

    assert registry.definitions() == []


def test_the_decorator_without_a_name_says_how_it_is_written(registry):
    with pytest.raises(FlowRefused, match=r'flow copy is refused: a flow is registered as @flow\("name"\)'):

        @flow
        def copy(): ...


@pytest.mark.parametrize("version", [0, -1, True, "1", 1.0, None, 2**31])
def test_a_version_is_a_whole_number_from_1(registry, version):
    with pytest.raises(FlowRefused, match="version should be a whole number"):
        flow("copy", version)(lambda: None)


@pytest.mark.parametrize("returns", ["", 3, ["a"]])
def test_what_a_flow_returns_is_one_name(registry, returns):
    with pytest.raises(FlowRefused, match="returns= takes the name"):
        flow("copy", returns=returns)(lambda: None)


async def awaits(): ...


def yields():
    yield


async def both():
    yield


@pytest.mark.parametrize(
    "factory",
    [awaits, yields, both, print, dict, functools.cache(lambda: None), functools.partial(print), None],
)
def test_a_factory_that_is_no_plain_function_is_refused(registry, factory):
    with pytest.raises(FlowRefused, match="its factory should"):
        flow("copy")(factory)


def test_two_factories_under_one_name_and_version_are_refused_and_the_first_one_stays(registry):
    @flow("copy")
    def one(): ...

    with pytest.raises(FlowRefused, match=r"version 1 is .*one already, and now also .*two"):

        @flow("copy")
        def two(): ...

    assert registry.get("copy").factory is one


def test_two_factories_made_by_one_function_are_two(registry):
    def make(part):
        @flow("copy")
        def copy():
            return part

    make(1)

    with pytest.raises(FlowRefused):
        make(2)


def test_the_same_file_imported_under_two_names_is_no_conflict(registry, module):
    """A script is `__main__`, and once more itself when it is named as a flow module."""
    name = module(COPY.format(name="copy"))
    script = importlib.util.spec_from_file_location("script", f"{name}.py")
    script.loader.exec_module(importlib.util.module_from_spec(script))

    load_flows([name])

    assert [definition.key for definition in registry.definitions()] == ["copy@1"]


# -- finding


def test_without_a_version_the_newest_is_found(registry):
    for version in (2, 10, 1):
        registry.add(FlowDefinition.of("copy", lambda: None, version=version))

    assert registry.get("copy").version == 10
    assert registry.get("copy", 2).version == 2
    assert registry.get("copy@2").version == 2


def test_definitions_are_sorted_by_name_and_version(registry):
    for name, version in (("b", 1), ("a", 10), ("a", 2)):
        registry.add(FlowDefinition.of(name, lambda: None, version=version))

    assert [definition.key for definition in registry.definitions()] == ["a@2", "a@10", "b@1"]


def test_an_unknown_name_lists_the_known_ones_nearest_first(registry):
    for name in ("archive", "file-processing", "file-copy"):
        registry.add(FlowDefinition.of(name, lambda: None))

    with pytest.raises(FlowNotFound) as caught:
        registry.get("file-procesing")

    assert caught.value.flow == "file-procesing"
    assert caught.value.known == ["file-processing", "file-copy", "archive"]


def test_an_unknown_version_lists_the_known_ones_newest_first(registry):
    for version in (1, 2):
        registry.add(FlowDefinition.of("copy", lambda: None, version=version))

    for wanted in (("copy", 7), ("copy@7",)):
        with pytest.raises(FlowNotFound) as caught:
            registry.get(*wanted)
        assert (caught.value.flow, caught.value.known) == ("copy@7", ["copy@2", "copy@1"])


@pytest.mark.parametrize(
    "name",
    ["os.system", "subprocess:run", "../../etc/passwd", "copy@", "copy@x", "@1", "", "copy@" + "9" * 5000],
)
def test_a_name_is_looked_up_and_never_imported_or_evaluated(registry, name):
    registry.add(FlowDefinition.of("copy", lambda: None))
    loaded = set(sys.modules)

    with pytest.raises(FlowNotFound) as caught:
        registry.get(name)

    assert len(str(caught.value)) < 400
    assert set(sys.modules) == loaded


# -- loading


def test_a_module_in_the_current_folder_is_found_without_staying_on_the_path(registry, module):
    path = list(sys.path)

    loaded = load_flows([module(COPY.format(name="copy"))])

    assert loaded is registry
    assert loaded.get("copy").name == "copy"
    assert sys.path == path


def test_the_current_folder_is_the_last_place_looked_in(registry, module, tmp_path):
    (tmp_path / "json.py").write_text("raise RuntimeError('hides the installed one')")
    name = module("import sys; import json; last = sys.path[-1]; assert json.dumps")

    load_flows([name])

    assert sys.modules[name].last == str(tmp_path)


def test_what_a_module_does_to_the_path_stays(registry, module, tmp_path):
    name = module(f"import sys; sys.path = ['/somewhere', {str(tmp_path)!r}, *sys.path]")
    path = list(sys.path)

    load_flows([name])

    assert sys.path == ["/somewhere", str(tmp_path), *path]


def test_a_deleted_current_folder_is_no_obstacle(registry, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    assert load_flows(["json"]) is registry


def test_loading_twice_is_loading_once(registry, module):
    name = module(COPY.format(name="copy"))

    load_flows([name])
    load_flows(name)

    assert len(registry.definitions()) == 1


@pytest.mark.parametrize(
    "name", ["", "a b", "a..b", ".a", "a.", "a/b", "../flows", "a-b", "import", "a:b", "a\n", "1a", 3]
)
def test_what_is_no_module_name_is_refused_before_anything_is_imported(registry, module, name):
    other = module("raise RuntimeError('imported')")

    assert "is not the name of a module" in refusal(name, other)


def test_a_missing_module_is_told_as_such(registry, module):
    assert refusal("no_such_module_here") == (
        "flow module no_such_module_here cannot be imported: "
        "there is no such module, neither installed nor in the current folder"
    )
    assert "there is no such module" in refusal("no_such_package_here.flows")
    assert refusal("flows_here.py").endswith("imported: a module is named without .py: flows_here")
    assert "there is no such module" in refusal("json.no_such_module_here")


def test_a_module_that_misses_another_names_that_one_and_the_line(registry, module):
    name = module("\nimport no_such_module_here\n")

    assert refusal(name) == (
        f"flow module {name} cannot be imported: "
        f"ModuleNotFoundError: No module named 'no_such_module_here' ({name}.py, line 2)"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise RuntimeError('first\\nsecond')", "RuntimeError: first second ({name}.py, line 1)"),
        ("def broken(:", "SyntaxError: invalid syntax ({name}.py, line 1)"),
        ("import sys\nsys.exit(3)", "SystemExit: 3 ({name}.py, line 2)"),
        ("from json import no_such_name", "line 1)"),
        ("raise KeyError", "KeyError ({name}.py, line 1)"),
        (
            "from ebbtide.flows import flow\n@flow('copy')\ndef copy(*files): ...",
            "flow copy is refused: parameter 'files' is variadic positional",
        ),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line_with_its_reason(registry, module, text, reason):
    name = module(text)

    told = refusal(name)

    assert told.startswith(f"flow module {name} cannot be imported: ")
    assert reason.format(name=name) in told


def test_a_module_that_was_repaired_can_be_loaded(registry, module, tmp_path):
    name = module("raise RuntimeError")
    refusal(name)
    (tmp_path / f"{name}.py").write_text(COPY.format(name="copy"))

    assert load_flows([name]).get("copy")


def test_entry_points_are_loaded_whether_modules_or_something_in_one(registry, module, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    one, two = module(COPY.format(name="one")), module(COPY.format(name="two"))
    found = [EntryPoint("one", one, "ebbtide.flows"), EntryPoint("two", f"{two}:copy", "ebbtide.flows")]
    monkeypatch.setattr(registry_module, "entry_points", lambda group: found)

    load_flows()

    assert [definition.name for definition in registry.definitions()] == ["one", "two"]


def test_an_entry_point_that_cannot_be_loaded_is_named_with_its_package(registry, monkeypatch):
    def load():
        raise AttributeError("module 'a' has no attribute 'b'")

    found = SimpleNamespace(name="copy", value="a:b", dist=SimpleNamespace(name="their-flows"), load=load)
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [found])

    assert refusal().startswith(
        "entry point copy = a:b of their-flows cannot be imported: AttributeError: module 'a' has no"
    )


# -- the room


def test_the_room_exports_what_a_user_needs():
    names = ["FlowDefinition", "Limits", "Registry", "RetryPolicy", "Secret"]
    assert sorted(ebbtide.flows.__all__) == [*names, "flow", "load_flows", "savepoint"]
    assert set(ebbtide.flows.__all__) <= set(dir(ebbtide.flows))
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        ebbtide.flows.no_such_name  # noqa: B018


def test_the_room_alone_loads_neither_pydantic_nor_taskflow():
    program = "import sys, ebbtide.flows; print({'pydantic', 'taskflow'} & set(sys.modules))"

    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert shown.strip() == "set()"
