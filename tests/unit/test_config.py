"""Options: from file, environment and call into one checked object, or one line that names the mistake."""

import os
import pickle
import subprocess
import sys
from dataclasses import MISSING, FrozenInstanceError, fields
from pathlib import Path

import pytest
from oslo_config import cfg

from ebbtide.config import OPTIONS, Settings, load_settings, sample, variable
from ebbtide.errors import ConfigError

ROOT = Path(__file__).parents[2]
HOME = {"HOME": "/home/somebody"}


@pytest.fixture
def write(tmp_path):
    def writer(text: str) -> str:
        path = tmp_path / "ebbtide.conf"
        path.write_text(text)
        return str(path)

    return writer


def refusal(*args, **kwargs) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(*args, **{"environ": HOME, **kwargs})
    return str(caught.value)


def test_without_anything_the_defaults_hold():
    settings = load_settings(environ=HOME)

    assert settings == Settings(
        database="sqlite:////home/somebody/.local/share/ebbtide/ebbtide.db",
        signal_folder="/home/somebody/.local/share/ebbtide/cancellations",
    )


def test_the_default_database_follows_xdg_unless_that_is_relative():
    absolute = load_settings(environ={**HOME, "XDG_DATA_HOME": "/data"})
    relative = load_settings(environ={**HOME, "XDG_DATA_HOME": "data"})

    assert absolute.database == "sqlite:////data/ebbtide/ebbtide.db"
    assert relative.database == load_settings(environ=HOME).database


def test_the_options_and_the_fields_are_the_same_with_the_same_defaults():
    defaults = {field.name: field.default for field in fields(Settings) if field.default is not MISSING}

    assert [option.name for option in OPTIONS] == [field.name for field in fields(Settings)]
    for option in OPTIONS[1:]:
        assert defaults[option.name] == (
            tuple(option.default) if isinstance(option.default, list) else option.default
        )


def test_call_wins_over_environment_and_environment_over_file(write):
    path = write("[DEFAULT]\nrunners = 3\ntask_threads = 5\nlog_lines = 7\n")
    environ = {**HOME, "EBBTIDE_RUNNERS": "4", "EBBTIDE_TASK_THREADS": "6"}

    settings = load_settings(path, environ, runners=8, log_level=None)

    assert (settings.runners, settings.task_threads, settings.log_lines) == (8, 6, 7)
    assert settings.log_level == "info"


def test_the_environment_names_the_file_unless_the_call_does(write, tmp_path):
    other = tmp_path / "other.conf"
    other.write_text("[DEFAULT]\nrunners = 9\n")
    environ = {**HOME, "EBBTIDE_CONFIG": write("[DEFAULT]\nrunners = 3\n")}

    assert load_settings(environ=environ).runners == 3
    assert load_settings(str(other), environ).runners == 9


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_can_be_given_in_the_environment(option):
    given = {"database": "sqlite:///x.db", "flow_modules": "one, two.three", "isolation": "thread"}
    given |= {"log_level": "debug", "lease_seconds": "31", "renew_seconds": "9", "self_fence_seconds": "21"}
    given |= {"max_parameter_bytes": "2048", "max_result_bytes": "4096"}
    given |= {"signal": "file", "zookeeper_path": "/a/b", "zookeeper_hosts": "a:1,[::1]:2"}
    given |= {"zookeeper_auth": "env:ZOOKEEPER", "board": "redis"}
    given |= {"allowed_hosts": "jobs.example.org, [::1]", "secret_references": "env:UPLOAD_*, file:/keys/"}
    text = given.get(option.name, "2")

    settings = load_settings(environ={**HOME, variable(option.name): text})

    expected = option.type(text)
    assert getattr(settings, option.name) == (tuple(expected) if isinstance(expected, list) else expected)
    assert settings.flow_modules in ((), ("one", "two.three"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("allowed_hosts", "jobs.example.org:8765"),
        ("allowed_hosts", "http://jobs.example.org"),
        ("allowed_hosts", "*"),
        ("secret_references", "TOKEN"),
        ("secret_references", "env:*"),
        ("secret_references", "env:A*B"),
        ("secret_references", "file:keys/"),
        ("secret_references", "file:/"),
        ("secret_references", "file:/keys/../"),
        ("requests_per_second", "0"),
    ],
)
def test_hosts_and_references_that_are_none_are_refused(name, text):
    assert f"{name} in the environment: '{text}' is not" in refusal(environ={**HOME, variable(name): text})


def test_a_secret_that_is_given_in_place_of_its_reference_is_refused_and_not_shown():
    told = refusal(zookeeper_auth="digest:ann:sesame")

    assert told == (
        "zookeeper_auth in the call: what is given is not env:NAME (no EBBTIDE_ name) or file:/PATH, "
        "where the secret is kept"
    )


def test_an_environment_variable_without_text_counts_as_not_given():
    assert load_settings(environ={**HOME, "EBBTIDE_RUNNERS": "", "EBBTIDE_CONFIG": ""}).runners == 2


def test_values_are_taken_as_they_stand(write):
    password = r"p$runners\$x%(y)s"
    path = write(f"[DEFAULT]\ndatabase = postgresql://u:{password}@h/d\n")

    assert load_settings(path, HOME).database == f"postgresql://u:{password}@h/d"


def test_an_unknown_key_in_the_file_is_refused_with_the_nearest_name(write):
    path = write("[DEFAULT]\nrunner = 3\n")

    assert refusal(path) == f"unknown option runner in {path}; did you mean runners?"


def test_an_option_of_the_library_itself_is_not_an_option_here(write):
    assert "unknown option config_source" in refusal(write("[DEFAULT]\nconfig_source = somewhere\n"))


def test_an_unknown_section_is_refused(write):
    assert "unknown section conductor" in refusal(write("[conductor]\nrunners = 3\n"))


def test_an_unknown_variable_is_refused_with_the_nearest_name():
    message = refusal(environ={**HOME, "EBBTIDE_LEASE_SECOND": "3"})

    assert message == "unknown environment variable EBBTIDE_LEASE_SECOND; did you mean EBBTIDE_LEASE_SECONDS?"


def test_variables_of_test_suites_are_left_alone():
    assert load_settings(environ={**HOME, "EBBTIDE_TEST_FAULT": "claimed"}) == load_settings(environ=HOME)


def test_an_unknown_name_in_the_call_is_refused_with_the_nearest_name():
    assert refusal(databse="sqlite:///x.db") == "unknown option databse in the call; did you mean database?"


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("runners", "0", "a whole number from 1 to 512"),
        ("runners", "2.5", "a whole number from 1 to 512"),
        ("runners", "1_0", "a whole number from 1 to 512"),
        ("runners", "\u0663", "a whole number from 1 to 512"),
        ("lease_seconds", "3_0.0", "a number of seconds from 0.1 to 86400"),
        ("runners", "many", "a whole number from 1 to 512"),
        ("isolation", "container", "one of process, thread"),
        ("log_level", "loud", "one of debug, info, warning, error"),
        ("lease_seconds", "30s", "a number of seconds from 0.1 to 86400"),
        ("lease_seconds", "nan", "a number of seconds from 0.1 to 86400"),
        ("sweep_seconds", "inf", "a number of seconds from 0.01 to 3600"),
        ("poll_seconds", "0", "a number of seconds from 0.001 to 60"),
        ("flow_modules", "my/flows.py", "a list of module names such as package.module"),
        ("flow_modules", ".relative", "a list of module names such as package.module"),
    ],
)
def test_a_wrong_value_is_refused_with_option_place_and_what_was_expected(write, option, value, expected):
    path = write(f"[DEFAULT]\n{option} = {value}\n")

    assert refusal(path) == f"{option} in {path}: '{value}' is not {expected}"
    assert f"{option} in the environment" in refusal(environ={**HOME, variable(option): value})
    assert f"{option} in the call" in refusal(**{option: value})


@pytest.mark.parametrize("option", ["runners", "lease_seconds", "database", "isolation"])
def test_a_key_without_a_value_is_refused(write, option):
    assert f"{option} in" in refusal(write(f"[DEFAULT]\n{option} =\n"))


def test_a_database_without_text_is_refused():
    assert (
        refusal(database=" ") == "database in the call: '' is not a URL or a file, such as sqlite:///jobs.db"
    )


def test_a_value_of_another_type_in_the_call_is_refused():
    assert "flow_modules in the call: '3'" in refusal(flow_modules=3)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"lease_seconds": 15}, ("self_fence_seconds (20)", "lease_seconds (15)")),
        ({"renew_seconds": 25}, ("renew_seconds (25)", "self_fence_seconds (20)")),
        ({"renew_seconds": 20}, ("renew_seconds (20)", "self_fence_seconds (20)")),
    ],
)
def test_a_lease_must_outlast_the_fence_and_the_fence_a_renewal(given, names):
    message = refusal(**given)

    assert all(name in message for name in names)
    with pytest.raises(ConfigError):
        Settings(database="sqlite:///x.db", **given)


def test_settings_made_by_hand_are_checked_too():
    with pytest.raises(ConfigError, match="runners in settings: '0' is not"):
        Settings(database="sqlite:///x.db", runners=0)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")

    assert "cannot be read: No such file or directory" in refusal(str(tmp_path / "missing"))
    assert "cannot be read: Is a directory" in refusal(str(tmp_path))
    assert "is not text" in refusal(str(tmp_path / "binary"))


def test_a_broken_line_is_named_by_its_number_and_not_repeated(write):
    message = refusal(write("[DEFAULT]\nrunners = 2\npassword s3cret\n"))

    assert "line 3" in message
    assert "s3cret" not in message


def test_a_password_is_never_shown():
    settings = load_settings(environ=HOME, database="postgresql://u:s3cret@h/d")

    assert "s3cret" in settings.database
    assert "postgresql://u:***@h/d" in repr(settings)
    assert "s3cret" not in f"{settings} {settings!r}"


def test_settings_are_frozen_and_can_be_sent_to_a_process():
    settings = load_settings(environ=HOME, flow_modules=["a"])

    assert pickle.loads(pickle.dumps(settings)) == settings
    with pytest.raises(FrozenInstanceError):
        settings.runners = 3


def test_the_global_configuration_of_the_library_is_not_touched():
    load_settings(environ=HOME)

    assert not {option.name for option in OPTIONS} & set(cfg.CONF)


def test_the_sample_file_is_up_to_date():
    assert (ROOT / "etc" / "ebbtide.conf.sample").read_text() == sample(), (
        "run: python -m ebbtide.config > etc/ebbtide.conf.sample"
    )


def test_the_sample_with_its_options_switched_on_gives_the_defaults(write):
    lines = sample().splitlines()
    switched_on = [line[1:] if line.startswith("#") and line[1:2].isalpha() else line for line in lines]

    settings = load_settings(write("\n".join(switched_on)), HOME)

    folder = load_settings(environ=HOME).signal_folder
    assert settings == Settings(database="sqlite:////var/lib/ebbtide/ebbtide.db", signal_folder=folder)


def test_every_option_says_in_a_sentence_when_one_would_change_it():
    for option in OPTIONS:
        assert option.help.endswith(".")
        assert any(word in option.help for word in ("Set it", "Raise it", "Lower it", "Change it"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "/home/somebody/.local/share/ebbtide/cancellations"),
        ({"TASK_CANCELLATION_DIR": "/theirs"}, "/theirs"),
        ({"TASK_CANCELLATION_DIR": "/theirs", "EBBTIDE_SIGNAL_FOLDER": "/ours"}, "/ours"),
        ({"TASK_CANCELLATION_DIR": ""}, "/home/somebody/.local/share/ebbtide/cancellations"),
    ],
)
def test_the_folder_of_cancel_requests_is_the_one_that_other_programs_know(write, given, expected):
    file = write("[DEFAULT]\nsignal_folder = /ours/too\n")

    assert load_settings(environ=HOME | given).signal_folder == expected
    told = any(given.values())
    assert load_settings(file, HOME | given).signal_folder == (expected if told else "/ours/too")


@pytest.mark.parametrize(
    ("name", "text", "option", "value"),
    [
        ("SCHEDULER_TASK_TIMEOUT", "300", "job_timeout", 300.0),
        ("SCHEDULER_MAX_RETRIES", "3", "max_retries", 3),
        ("SCHEDULER_RETRY_INTERVAL", "60", "retry_interval", 60.0),
    ],
)
def test_what_a_scheduler_sets_is_honoured_and_our_own_variable_wins(name, text, option, value):
    theirs = {**HOME, name: text}

    assert getattr(load_settings(environ=theirs), option) == value
    assert getattr(load_settings(environ={**theirs, variable(option): "7"}), option) == 7
    assert f"{option} in the environment ({name}): 'soon' is not" in refusal(environ={**HOME, name: "soon"})


def test_the_folder_of_requests_may_be_below_the_home_directory(write):
    file = write("[DEFAULT]\nsignal_folder = ~/requests\n")

    assert load_settings(file, HOME).signal_folder == f"{HOME['HOME']}/requests"


def test_an_unknown_signal_lists_the_known_ones():
    told = refusal(environ={**HOME, "EBBTIDE_SIGNAL": "pigeon"})

    assert told == (
        "signal in the environment: 'pigeon' is not one of auto, sqlite, postgresql, redis, zookeeper, file, "
        "local"
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("zookeeper_hosts", "zk1:2181/chroot"),
        ("zookeeper_hosts", "zk1:2181,,zk2"),
        ("zookeeper_path", "jobs"),
        ("zookeeper_path", "/a//b"),
        ("zookeeper_path", "/a/../b"),
        ("zookeeper_path", "/"),
        ("redis_url", " "),
    ],
)
def test_what_no_server_could_be_found_by_is_refused(name, text):
    assert refusal(environ=HOME, **{name: text}).startswith(f"{name} in the call: ")


def test_a_password_for_redis_is_not_shown():
    settings = load_settings(environ=HOME, redis_url="redis://:sesame@cache/0")

    assert "sesame" not in repr(settings)
    assert settings.redis_url == "redis://:sesame@cache/0"


def test_nothing_is_read_when_the_module_is_imported():
    environ = {**os.environ, "EBBTIDE_NONSENSE": "1"}

    subprocess.run([sys.executable, "-c", "import ebbtide.config"], env=environ, check=True)
