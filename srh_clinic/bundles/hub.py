"""Bundles to and from a hub or a folder: by name and pinned revision, checked by hash before anything of them is used.

A hub is Hugging Face's or one that speaks like it (``HF_ENDPOINT``); offline, a folder that bundles were put into serves in
its place. What is fetched is a copy: nothing is read from a hub later.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from srh_clinic.bundles.bundle import METADATA, Bundle, load_bundle, verify_bundle
from srh_clinic.errors import InputError
from srh_clinic.files import require_new_folder, sha256_of, whole_folder

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$")
_REVISION = re.compile(r"[0-9a-f]{40}$")


def fetch_bundle(source: str, out: Path, *, revision: str | None = None, sha256: str | None = None) -> Bundle:
    """Copy a bundle from a hub, or from a folder, into a folder of its own.

    Parameters
    ----------
    source
        A folder with a bundle, or ``owner/name`` on the hub.
    out
        A folder that is not there, or empty.
    revision
        Of a hub: the commit, 40 hexadecimal digits; a branch or a tag can come to mean something else.
    sha256
        Of the bundle's ``configs/metadata.json``, in which that of every other file stands: from whom one has the name. A
        hub's bundle needs it.

    Raises
    ------
    InputError
        When it is not to be had, no commit is named, or a hash is another; nothing is left at ``out`` then.
    """
    require_new_folder(out)
    place = Path(source)
    if place.is_dir():
        return _copied(place, out, sha256)
    if not _NAME.match(source):
        raise InputError(f"the source {source!r}", "a bundle's folder, or owner/name on the hub")
    if revision is None or not _REVISION.match(revision):
        found = "no revision" if revision is None else f"the revision {revision!r}"
        raise InputError(found, "a commit of 40 hexadecimal digits (--revision)")
    if sha256 is None:
        raise InputError(
            f"no sha256 for {source}", "that of its configs/metadata.json (--sha256), from whom you have its name"
        )
    with tempfile.TemporaryDirectory() as folder:
        _download(source, revision, Path(folder))
        return _copied(Path(folder), out, sha256)


def publish_bundle(bundle: Bundle, target: str, *, message: str = "A bundle of srh-clinic") -> str:
    """Put a bundle into a folder, or onto the hub under ``owner/name``, and say how it is fetched.

    Raises
    ------
    InputError
        When the bundle is damaged, extends one in a folder that will not be there, or the target cannot be written.
    """
    verify_bundle(bundle.path)
    extends = str(bundle.metadata.get("extends") or "")
    if "/" in extends:
        raise InputError(
            f"a bundle that extends the folder {extends}", "one that extends none, or one in the package", bundle.path
        )
    digest = sha256_of(bundle.path / METADATA)
    if _NAME.match(target) and not Path(target).parent.is_dir():
        revision = _upload(bundle, target, message)
        return f"srh-clinic bundle fetch {target} --revision {revision} --sha256 {digest} --out {bundle.name}"
    require_new_folder(Path(target))
    _copied(bundle.path, Path(target), digest)
    return f"srh-clinic bundle fetch {target} --sha256 {digest} --out {bundle.name}"


def _copied(source: Path, out: Path, sha256: str | None) -> Bundle:
    """A copy of the files that a bundle's metadata list, checked before it stands."""
    if not (source / METADATA).is_file():
        raise InputError("no bundle", f"a folder with {METADATA}", source)
    found = sha256_of(source / METADATA)
    if sha256 is not None and found != sha256.lower():
        raise InputError(f"{METADATA} of sha256 {found}", f"that of {sha256}", source)
    listed = verify_bundle(source)
    with whole_folder(out) as draft:
        for file in (METADATA, *listed):
            (draft / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file, draft / file)
        verify_bundle(draft)
    return load_bundle(out)


def _download(name: str, revision: str, folder: Path) -> None:
    try:
        from huggingface_hub import snapshot_download

        snapshot_download(name, revision=revision, local_dir=str(folder), allow_patterns=["configs/*", "models/*", "docs/*"])
    except Exception as error:  # whatever a hub, its client or the way there raises
        raise _refused("give", name, error) from error


def _upload(bundle: Bundle, name: str, message: str) -> str:
    """The commit that a bundle was put into."""
    files = [METADATA, *bundle.metadata["sha256"]]
    try:
        from huggingface_hub import HfApi

        hub = HfApi()
        hub.create_repo(name, exist_ok=True)
        commit = hub.upload_folder(repo_id=name, folder_path=str(bundle.path), allow_patterns=files, commit_message=message)
        return str(commit.oid)
    except Exception as error:  # as above
        raise _refused("take", name, error) from error


def _refused(does: str, name: str, error: Exception) -> InputError:
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(f"a hub that does not {does} {name} ({said[:160]})", "a name that is there, a way there, and a login")
