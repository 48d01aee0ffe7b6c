import pickle

from ehr_bert.errors import UserError, error_line


def test_the_text_ends_with_the_key():
    error = UserError("empty-folder", "data/ is empty. Choose another folder.")
    assert str(error) == error_line(error) == "data/ is empty. Choose another folder. [empty-folder]"


def test_a_prefix_keeps_the_key():
    error = UserError("unknown-setting", "unknown setting 'sede'.").prefixed("recipe.toml: ")
    assert (error.key, error.message) == ("unknown-setting", "recipe.toml: unknown setting 'sede'.")


def test_an_error_of_another_process_keeps_its_key():
    error = pickle.loads(pickle.dumps(UserError("empty-folder", "data/ is empty.")))
    assert (error.key, error.message) == ("empty-folder", "data/ is empty.")


def test_an_error_of_the_operating_system_names_the_path():
    line = error_line(PermissionError(13, "Permission denied", "/data/out"))
    assert line == "cannot read or write /data/out: Permission denied. Choose another path. [os-error]"


def test_an_error_of_the_operating_system_without_a_path_is_printed_as_it_is():
    assert error_line(OSError(28, "No space left on device")) == "[Errno 28] No space left on device"
