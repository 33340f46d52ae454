import pickle
import subprocess

import pytest

from dosimeter.core.errors import InputError
from dosimeter.loading.weights import load_weights
from dosimeter.selftest.corpus_weights import checkpoint, safetensors, tensor_pickle
from dosimeter.selftest.crafting import Call

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.LSTM(4, 4))


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
@pytest.mark.parametrize("zipped", [True, False])
def test_reads_state_dicts(tmp_path, module, suffix, zipped):
    path = tmp_path / f"model{suffix}"
    torch.save(module.state_dict(), path, _use_new_zipfile_serialization=zipped)
    assert_same(load_weights(path), module.state_dict())


def test_reads_training_checkpoints_and_parameters(tmp_path, module):
    optimizer = torch.optim.Adam(module.parameters())
    torch.save(
        {"epoch": 3, "state_dict": module.state_dict(), "optimizer": optimizer.state_dict()},
        tmp_path / "a.pt",
    )
    assert_same(load_weights(tmp_path / "a.pt"), module.state_dict())
    torch.save(dict(module.named_parameters()), tmp_path / "b.pt")
    assert_same(load_weights(tmp_path / "b.pt"), {k: v.detach() for k, v in module.named_parameters()})


def test_reads_every_dtype(tmp_path):
    from safetensors.torch import save_file

    names = (
        "float16 bfloat16 float32 float64 uint8 int8 int16 int32 int64 bool uint16 complex64 float8_e4m3fn"
    )
    tensors = {name: torch.ones(2, 3).to(getattr(torch, name)) for name in names.split()}
    torch.save(tensors, tmp_path / "a.pt")
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    assert_same(load_weights(tmp_path / "a.pt"), tensors)
    found = load_weights(tmp_path / "a.safetensors")
    assert_same({name: found[name] for name in tensors}, tensors)


def test_code_needs_trust(tmp_path, module):
    torch.save(module, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"calls for torch\.nn.*--trust \(trust=True\)"):
        load_weights(tmp_path / "a.pt")
    assert_same(load_weights(tmp_path / "a.pt", trust=True), module.state_dict())
    torch.save(module.state_dict(), tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"'\.ckpt' is not one of \.safetensors, \.pt.*--trust"):
        load_weights(tmp_path / "a.ckpt")
    assert_same(load_weights(tmp_path / "a.ckpt", trust=True), module.state_dict())


def test_the_call_of_a_pickle_is_named_and_not_run(tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(checkpoint(pickle.dumps(Call(subprocess.check_call, ["touch", str(tmp_path / "b")]), 2)))
    with pytest.raises(InputError, match=r"calls for \w+\.check_call"):
        load_weights(path)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (tensor_pickle((1 << 50,), (0,)), "claims 4503599627370496 bytes in a file of"),
        (tensor_pickle((10**6,), (1,)), "cannot read|claims"),
        (tensor_pickle((1,) * 65, (1,) * 65), "a tuple of 65 items"),
        (b"\x80\x02}(" + b")" + b"\x85" * 99 + b"Nu.", "nests tuples deeper than 64"),
        (pickle.dumps({"a": 1.5}, 2), "holds a dictionary with the keys 'a'"),
        (pickle.dumps([1], 2), "holds one list"),
        (pickle.dumps({}, 2), r"the keys \(none\)"),
    ],
)
def test_lying_checkpoints_are_refused(tmp_path, pickled, message):
    (tmp_path / "a.pt").write_bytes(checkpoint(pickled))
    with pytest.raises(InputError, match=message):
        load_weights(tmp_path / "a.pt")


def test_copies_are_counted_but_ordinary_calls_are_free(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({str(i): torch.nn.Parameter(torch.zeros(1)) for i in range(300)}, path)
    assert len(load_weights(path)) == 300
    items = b"](" + b"K\1N\x86" * 10 + b"e"
    path.write_bytes(
        checkpoint(b"\x80\x02" + items + b"q\x010(" + b"ccollections\nOrderedDict\nh\x01\x85R" * 65 + b"l.")
    )
    with pytest.raises(InputError, match="copies containers more than 64 times"):
        load_weights(path)


def test_safetensors_must_tile_their_file(tmp_path):
    path = tmp_path / "a.safetensors"
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    path.write_bytes(safetensors({"a": entry}, bytes(8)))
    assert load_weights(path)["a"].tolist() == [0, 0]
    path.write_bytes(safetensors({"a": entry}, bytes(9)))
    with pytest.raises(InputError, match="but the file has"):
        load_weights(path)
    path.write_bytes(safetensors({"a": {**entry, "shape": [3]}}, bytes(8)))
    with pytest.raises(InputError, match=r"type F32 and shape \[3\] does not fill bytes \[0, 8\]"):
        load_weights(path)
    path.write_bytes(checkpoint(tensor_pickle()))
    with pytest.raises(InputError, match="a pickle or PyTorch checkpoint under another name"):
        load_weights(path)
    for text in ("<!doctype html><title>Not found</title>", "version https://git-lfs.github.com/spec/v1"):
        path.write_text(text)
        with pytest.raises(InputError, match="it is text, such as a web page or a Git LFS pointer"):
            load_weights(path)
