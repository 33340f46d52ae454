import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dosimeter.core.errors import InputError
from dosimeter.loading.arrays import load_arrays
from dosimeter.selftest.corpus_arrays import npy, npz, saved
from dosimeter.selftest.crafting import Member

DTYPES = st.sampled_from(["<f4", ">f8", "<f2", "|b1", "|u1", ">i2", "<i8", "<c8", "<U5", "|S3"])


@settings(max_examples=60, deadline=None)
@given(data=st.data(), dtype=DTYPES, fortran=st.booleans())
def test_reads_what_numpy_writes(tmp_path_factory, data, dtype, fortran):
    array = data.draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=4)))
    array = np.asfortranarray(array) if fortran else array
    folder = tmp_path_factory.mktemp("arrays")
    np.save(folder / "a.npy", array)
    np.savez(folder / "a.npz", first=array, second=array.T)
    np.savez_compressed(folder / "b.npz", first=array)
    for found in (
        load_arrays(folder / "a.npy")["array"],
        load_arrays(folder / "a.npz")["first"],
        load_arrays(folder / "a.npz")["second"].T,
        load_arrays(folder / "b.npz")["first"],
    ):
        assert found.dtype == array.dtype
        assert found.shape == array.shape
        np.testing.assert_array_equal(found, array)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 130))
def test_damage_is_refused_or_harmless(tmp_path_factory, noise, position):
    sound = saved(np.arange(6.0).reshape(2, 3))
    path = tmp_path_factory.mktemp("arrays") / "a.npy"
    path.write_bytes(sound[:position] + noise + sound[position + len(noise) :])
    try:
        found = load_arrays(path)["array"]
    except InputError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert found.nbytes <= len(sound) + len(noise)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy({"descr": "|O", "fortran_order": False, "shape": (1,)}, b"x"), "pickled Python objects"),
        (npy({"descr": "<f8", "fortran_order": False, "shape": (1 << 50,)}), "8 PiB"),
        (npy({"descr": "<f8", "fortran_order": False, "shape": (-1,)}), r"the shape \(-1,\)"),
        (npy({"descr": "<f8", "fortran_order": 1, "shape": (1,)}), "not that of a plain NumPy array"),
        (npy("__import__('os').abort()"), "not that of a plain NumPy array"),
        (b"\x80\x02N.", "looks like a pickle, which is never loaded"),
    ],
)
def test_lying_headers_are_refused(tmp_path, content, message):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_arrays(tmp_path / "a.npy")
    (tmp_path / "a.npz").write_bytes(npz(Member("x.npy", content)))
    with pytest.raises(InputError, match=message):
        load_arrays(tmp_path / "a.npz")


def test_the_limit_holds_for_all_arrays_together(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(100), b=np.zeros(100))
    assert set(load_arrays(tmp_path / "a.npz", max_bytes=1600)) == {"a", "b"}
    with pytest.raises(InputError, match=r"claims 1\.562 KiB of data, more than the limit of 1 KiB"):
        load_arrays(tmp_path / "a.npz", max_bytes=1024)


def test_other_suffixes_are_named(tmp_path):
    with pytest.raises(InputError, match=r"but it ends in '\.pkl'"):
        load_arrays(tmp_path / "a.pkl")
