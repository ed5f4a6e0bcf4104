import pytest

from synthskin.physics import llvm
from synthskin.physics.llvm import DeviceError, LLVMLibrary, find_llvm, resolve_device


@pytest.mark.parametrize(("name", "version"), [
    ("libLLVM-14.so.1", 14), ("libLLVM-15.so", 15), ("libLLVM.so.19.1", 19), ("libLLVM-19.so.1", 19),
    ("libLLVM.so.22.1", 22), ("libLLVM-14.0.6.so.1", 14),
])
def test_version_from_the_name(name, version, tmp_path):
    assert llvm._is_library(name)
    assert llvm._version(str(tmp_path / name)) == version


@pytest.mark.parametrize("name", ["libLLVMCore.a", "libLLVM-C.so", "libLLVMSupport.so", "notlibLLVM.so"])
def test_other_libraries_are_left_alone(name):
    assert not llvm._is_library(name)


def test_nineteen_first_then_newer_never_older(monkeypatch):
    order = sorted([14, 22, 19, 16, 17, None], key=llvm._preference)
    assert order == [19, 17, 22, 16, 14, None]
    monkeypatch.delenv(llvm.ENV, raising=False)
    monkeypatch.setattr(llvm, "list_llvm", lambda: [LLVMLibrary("/x/libLLVM-15.so.1", 15)])
    with pytest.raises(DeviceError, match=r"found version 15, 17 or later is needed; .*apt-get install libllvm19"):
        find_llvm()
    monkeypatch.setattr(llvm, "list_llvm", list)
    with pytest.raises(DeviceError, match="no LLVM found"):
        find_llvm()
    monkeypatch.setattr(llvm, "list_llvm", lambda: [LLVMLibrary("/x/libLLVM.so.19.1", 19)])
    assert find_llvm().path == "/x/libLLVM.so.19.1"
    import os

    assert os.environ[llvm.ENV] == "/x/libLLVM.so.19.1"


def test_a_library_that_cannot_be_loaded_is_not_usable(tmp_path):
    path = tmp_path / "libLLVM.so"
    path.write_bytes(b"not a library")
    assert llvm._version(str(path)) is None
    assert not LLVMLibrary(str(path), None).usable


def test_devices(monkeypatch):
    monkeypatch.setattr(llvm, "cuda_driver", lambda: None)
    with pytest.raises(DeviceError, match="no NVIDIA driver"):
        resolve_device("cuda")
    monkeypatch.setattr(llvm, "cuda_driver", lambda: (0, 12040))
    with pytest.raises(DeviceError, match="reports no GPU"):
        resolve_device("cuda")
    monkeypatch.setattr(llvm, "cuda_driver", lambda: (1, 12040))
    assert resolve_device("auto") == resolve_device("cuda") == "cuda"
    with pytest.raises(DeviceError, match="auto, cuda, llvm"):
        resolve_device("gpu")
