"""How networks are run fast: one image a thread, in bfloat16 where that is faster."""

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from srh_clinic import engine
from srh_clinic.bundles import load_bundle
from srh_clinic.classifiers import load_classifier
from srh_clinic.engine import (
    Engine,
    choose_precision,
    each_alone,
    give_back_memory,
    keep_freed_memory,
    remembered_choice,
    side_by_side,
)
from srh_clinic.errors import InputError
from srh_clinic.restorers import create_restorer
from srh_clinic.restorers.diffusion import load_calibrator
from srh_clinic.rscd.networks import create_denoiser
from srh_clinic.simulation import simulate_case

CPU = torch.device("cpu")
LINEAR = Path(__file__).resolve().parent.parent / "weights" / "phantom-linear"
BUNDLES = ["phantom-demo", str(LINEAR)]


@pytest.fixture(autouse=True)
def as_many_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tiles() -> np.ndarray:
    """Six tiles of a phantom that ask for different numbers of steps, uint16 ``(6, 2, 64, 64)``."""
    counts = simulate_case("tumor", 0.3, 192, 1).counts
    return np.stack([counts[:, y : y + 64, x : x + 64] for y in (0, 64) for x in (0, 64, 128)])


@pytest.mark.parametrize("bundle", BUNDLES)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_tile_is_restored_to_the_same_counts_in_any_batch_order_and_number_of_threads(bundle, precision, tiles):
    positions = np.array([(64 * i, 0) for i in range(len(tiles))])
    expected = None
    for threads, batch_size, order in ((1, 1, 1), (1, 5, -1), (2, 1, -1), (2, 16, 1), (2, 5, 1)):
        torch.set_num_threads(threads)
        restorer = create_restorer("rscd", bundle, "cpu", batch_size=batch_size, precision=precision)
        made = restorer.restore(tiles[::order], positions[::order], seed=3)
        found = made.counts[::order]
        expected = found if expected is None else expected
        np.testing.assert_array_equal(found, expected, err_msg=f"{threads} threads, batches of {batch_size}")
        assert torch.get_num_threads() == threads
    assert not np.array_equal(expected, tiles)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_bf16_runs_the_same_steps_as_float32_and_gives_nearly_the_same_counts(bundle, tiles):
    whole, half = (create_restorer("rscd", bundle, "cpu", precision=one).restore(tiles) for one in ("float32", "bf16"))
    np.testing.assert_array_equal(half.t_pred, whole.t_pred)  # the calibrator is never rounded, and its first look is the same
    assert not np.array_equal(half.counts, whole.counts)
    # Noise of the smallest step is 328 counts.
    assert np.sqrt(np.mean((half.counts.astype(float) - whole.counts.astype(float)) ** 2)) < 100


def test_the_engine_answers_in_float32_and_sees_one_image_in_one_thread():
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, x, t):
            seen.append((tuple(x.shape), torch.get_num_threads(), threading.get_ident(), x.is_contiguous(memory_format=LAST)))
            return x.to(torch.bfloat16) + t[:, None, None, None]

    torch.set_num_threads(2)
    x = torch.arange(3 * 2 * 4 * 4.0).reshape(3, 2, 4, 4)
    answer = Engine(Spy().eval(), CPU, "bf16")(x, torch.tensor([1, 2, 3]))
    assert answer.dtype == torch.float32
    assert torch.equal(answer, (x.bfloat16() + torch.tensor([1, 2, 3])[:, None, None, None]).float())
    assert [(shape, threads, last) for shape, threads, _, last in seen] == [((1, 2, 4, 4), 1, True)] * 3
    assert threading.get_ident() not in {thread for _, _, thread, _ in seen}


LAST = torch.channels_last


def test_what_one_thread_raises_reaches_the_caller_and_threads_come_back():
    def broken(x):
        raise ArithmeticError("broken")

    torch.set_num_threads(2)
    with pytest.raises(ArithmeticError, match="broken"):
        each_alone(broken, torch.zeros(4, 1))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("threads", [1, 3])
def test_work_side_by_side_comes_back_in_order_and_rests_while_the_caller_works(threads):
    torch.set_num_threads(threads)
    running, seen = threading.Semaphore(0), set()

    def work(item):
        running.release()
        seen.add((threading.get_ident(), torch.get_num_threads(), torch.is_inference_mode_enabled() or threads > 1))
        assert running.acquire(blocking=False)
        return -item

    for expected, made in enumerate(side_by_side(work, range(3 * engine.TOGETHER + 5))):
        assert made == -expected
        assert not running.acquire(blocking=False)
        assert torch.get_num_threads() == threads
    assert {(one, usual) for _, one, usual in seen} == {(1, True)}
    assert (threading.get_ident() in {thread for thread, _, _ in seen}) == (threads == 1)


def test_work_that_fails_side_by_side_fails_the_caller():
    torch.set_num_threads(2)
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(lambda item: 1 / item, [1, 2, 0, 3]))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("threads", [1, 2])
def test_what_was_read_before_a_source_breaks_is_worked_on(threads):
    torch.set_num_threads(threads)

    def broken():
        yield from (1, 2, 3)
        raise OSError("no more")

    made = []
    with pytest.raises(OSError, match="no more"):
        made.extend(side_by_side(lambda item: -item, broken()))
    assert made == [-1, -2, -3]


def test_freed_memory_is_kept_where_the_c_library_can():
    assert keep_freed_memory() in (True, False)  # whatever library there is, nothing is raised


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not say what a process holds")
def test_memory_that_was_freed_in_pieces_is_given_back():
    keep_freed_memory()

    def held() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    pieces = [bytes(b"x" * 100_000) for _ in range(1_000)]
    kept = pieces[::50]
    full = held()
    del pieces
    if give_back_memory():
        assert held() < full - 50_000_000
    assert len(kept) == 20


def test_calibrator_and_classifier_answer_alike_in_any_batch_and_number_of_threads(tiles):
    bundle = load_bundle("phantom-demo")
    calibrator, classifier = load_calibrator(bundle, CPU), load_classifier(bundle)
    states = torch.from_numpy(tiles.astype(np.float32) / 32768 - 1)
    patches = np.tile(tiles, (1, 1, 4, 4))
    torch.set_num_threads(1)
    steps, logits, features = calibrator(states), classifier.logits(patches), classifier.embed(patches)
    torch.set_num_threads(2)
    for size in (1, 5):
        parts = range(0, len(tiles), size)
        np.testing.assert_array_equal(np.concatenate([calibrator(states[i : i + size]) for i in parts]), steps)
        np.testing.assert_array_equal(np.concatenate([classifier.logits(patches[i : i + size]) for i in parts]), logits)
        np.testing.assert_array_equal(np.concatenate([classifier.embed(patches[i : i + size]) for i in parts]), features)
    assert calibrator(states[:0]).shape == (0,)


def test_weights_do_not_change_by_being_laid_out_anew():
    network = load_bundle("phantom-demo").load_network(create_denoiser, "denoiser", CPU)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    Engine(network, CPU, "bf16")(torch.zeros(1, 2, 32, 32), torch.tensor([3]))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.fixture
def with_bf16(monkeypatch):
    """A processor with instructions for bfloat16, on which it is as fast as the returned list's last number says."""
    speeds, measured = [2.0], []
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    monkeypatch.setattr(engine, "bf16_speed", lambda: measured.append(1) or speeds[-1])
    remembered_choice.cache_clear()
    yield speeds, measured
    remembered_choice.cache_clear()


def ask(file: Path | None) -> str:
    """As a new process would."""
    remembered_choice.cache_clear()
    return remembered_choice(file)


def test_the_measurement_is_remembered_by_processor_and_torch(with_bf16, tmp_path, monkeypatch):
    speeds, measured = with_bf16
    file = tmp_path / "srh-clinic" / "precision.json"
    assert ask(file) == "bf16"
    speeds.append(0.02)
    assert ask(file) == "bf16"
    assert len(measured) == 1
    (entry,) = json.loads(file.read_text()).values()
    assert entry["bf16_speed"] == 2.0
    assert entry["torch"] == torch.__version__

    monkeypatch.setattr(engine, "processor_name", lambda: "another")
    assert ask(file) == "float32"
    assert len(measured) == 2
    monkeypatch.undo()
    assert len(json.loads(file.read_text())) == 2
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    "said",
    [
        lambda key, entry: "",
        lambda key, entry: "[1]",
        lambda key, entry: "{" * 5000,
        lambda key, entry: json.dumps({key: 3}),
        lambda key, entry: json.dumps({key: {**entry, "bf16_speed": "fast"}}),
        lambda key, entry: json.dumps({key: {**entry, "bf16_speed": -1.0}}),
        lambda key, entry: json.dumps({key: {**entry, "bf16_speed": float("nan")}}),
        lambda key, entry: json.dumps({key: {**entry, "bf16_speed": 9.0, "processor": "another"}}),
        lambda key, entry: json.dumps({key: {"bf16_speed": 9.0}}),
    ],
)
def test_a_memory_that_says_something_else_is_measured_anew_and_mended(with_bf16, tmp_path, said):
    speeds, measured = with_bf16
    file = tmp_path / "precision.json"
    ask(file)
    ((key, entry),) = json.loads(file.read_text()).items()
    file.write_text(said(key, entry))
    speeds.append(0.5)
    assert ask(file) == "float32"
    assert len(measured) == 2
    assert ask(file) == "float32"
    assert len(measured) == 2


def test_a_place_that_cannot_be_written_does_not_matter(with_bf16, tmp_path):
    _, measured = with_bf16
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "precision.json", tmp_path, None):
        assert ask(place) == "bf16"
    assert len(measured) == 3
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_the_default_follows_the_processor_and_a_name_forces(with_bf16, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert choose_precision("auto", CPU) == "bf16"
    assert (tmp_path / "srh-clinic" / "precision.json").is_file()
    assert choose_precision("float32", CPU) == "float32"
    assert choose_precision("auto", torch.device("meta")) == "float32"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    assert choose_precision("auto", CPU) == "float32"
    assert choose_precision("bf16", CPU) == "bf16"
    with pytest.raises(InputError, match="the precision 'half'"):
        choose_precision("half", CPU)


def test_a_restorers_settings_say_what_auto_became():
    for name in ("rscd", "ccdf", "rrd"):
        assert create_restorer(name, device="cpu", precision="bf16").settings["precision"] == "bf16"
        assert create_restorer(name, device="cpu").settings["precision"] == choose_precision("auto", CPU)
    with pytest.raises(InputError, match="precision"):
        create_restorer("rscd", device="cpu", precision="int8")


def test_the_measurement_is_a_positive_number():
    assert engine.bf16_speed() > 0
