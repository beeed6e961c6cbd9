"""What other programs fell into, and the test here that would catch it: the whole list, and those tests that have no better place.

Explanation packages have theirs in tests/explain/test_peer_defects.py, each with a look at the package itself.
"""

from __future__ import annotations

import ast
import pickle
import tomllib
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# explaining
PEERS = "explain/test_peer_defects.py::"
KNOWN = {
    "MONAI GradCAM: the default normaliser inverts the map": "explain/test_cam.py::test_grad_cam_is_not_inverted_as_monais",
    "MONAI VanillaGrad doubles on a second call": PEERS + "test_a_second_call_on_the_same_image_gives_the_same_map",
    "MONAI SmoothGrad shrinks with its samples": PEERS + "test_more_samples_of_smooth_grad_do_not_shrink_the_map",
    "MONAI guided backprop misses rectifiers not named relu": PEERS
    + "test_guided_backprop_does_not_depend_on_the_name_of_the_rectifier",
    "MONAI OcclusionSensitivity: the head from the channels": PEERS
    + "test_occlusion_takes_the_score_of_the_head_and_not_of_the_number_of_channels",
    "captum LRP loses or creates relevance": "explain/test_propagation.py::test_captum_loses_or_creates_relevance",
    "captum DeepLift is off on DenseNet-121": "explain/test_deep_lift.py::test_captum_deep_lift_is_off_on_densenet",
    "captum IG at 50 steps is off, without a word": PEERS + "test_integrated_gradients_add_up_or_say_so",
    "captum Lime gives nought on a valid model": PEERS + "test_lime_tells_small_effects",
    "shap DeepExplainer crashes and leaves hooks": PEERS + "test_deep_shap_explains_a_densenet_and_leaves_nothing_behind",
    "functional, reused, in-place rectifiers (shap#3466)": PEERS + "test_rectifiers_in_any_form_give_one_answer",
    "LIME differs from run to run (lime#67, #477)": PEERS + "test_one_seed_is_one_map",
    "captum#538: IG runs out of memory": "explain/test_integrated_gradients.py::test_memory_does_not_grow_with_the_steps",
    "KernelSHAP without batches (shap#1977)": PEERS + "test_batches_bound_the_memory",
    "no sanity checks (captum#359)": "assess/test_card.py::test_map_that_ignores_the_weights_is_flagged",
    "Quantus ROAD returned 0 (#333)": PEERS + "test_road_is_not_nought",
    "CheXlocalize drops empty predictions": "train/test_localisation.py::test_both_slices_of_an_empty_prediction",
    "packages of unfit licence": PEERS + "test_no_dependence_on_packages_of_unfit_licence",
    "torch-cam: softmax whatever the head": "classifier/test_bundle.py::test_scores_of_the_two_classes_are_opposite_and_match_the_network",
    "Chester: each map divided by its own maximum": "radiograph/test_colour.py::test_a_value_has_one_colour_whatever_else_is_in_the_map",
    # viewing
    "MONOCHROME1 inverted twice (Weasis#372)": "radiograph/test_display.py::test_inverted_exactly_once",
    "MONOCHROME1 inverted too early (cornerstone3D#2215)": "radiograph/test_display_dcmtk.py::test_made_cases",
    "MONOCHROME1 and its padding (pydicom)": "radiograph/test_display_dcmtk.py::test_padding_is_black_in_monochrome1_too",
    "VOI LUT Sequence ignored (OHIF#120)": "radiograph/test_dicom.py::test_voi_lut_forms",
    "several windows ambiguous (pydicom#1234)": "radiograph/test_dicom.py::test_windows_keep_order_and_drop_the_invalid",
    "padding counted in the automatic window (OHIF#4449)": "radiograph/test_display.py::test_full_and_auto_leave_padding_out",
    "detector spacing shown as true millimetres (Weasis#465)": "evidence/test_format.py::test_spacing_says_where_it_comes_from",
    "calibrated and detector spacing confused": "radiograph/test_spacing.py::test_rules",
    "mean of a region NaN (Weasis#855)": "radiograph/test_regions.py::test_values_that_are_not_finite_are_excluded_and_counted",
    "area wrong by 1000 times (cornerstone3D#2630)": "radiograph/test_regions.py::test_closed_form_areas",
    "freehand broken by rotating (#976)": "app/test_canvas_regions.py::test_moving_and_resizing_under_rotation_and_flip",
    "pyqtgraph's ellipse resamples": "radiograph/test_regions.py::test_ellipse_equals_skimage",
    # running
    "napari#8689: seconds to start": "test_layers.py::test_the_window_loads_no_torch",
    "napari#1320: a worker that cannot be killed": "runtime/test_worker.py::test_cancel_waiting_job_and_deaf_job",
    "MONAILabel#1397: out of memory holds the GPU": "explain/test_session_limits.py::test_out_of_memory_halves_then_moves_and_says_so",
    "ert#14421: garbage collected while painting": "test_known_defects.py::test_no_garbage_is_collected_while_a_painter_is_open",
    "PySide6 6.11 breaks docks; opencv-python's Qt": "test_known_defects.py::test_versions_with_known_defects_are_excluded",
    "pyinstaller#4067: windows without end": "test_known_defects.py::test_every_way_in_catches_workers_first",
    "pydicom#1712: decoders missing where frozen": "cli/test_verbs.py::test_selftest_reports_every_check",
    "one-file builds are flagged": "test_known_defects.py::test_the_frozen_program_is_a_folder",
    "torch.load runs what it reads": "test_known_defects.py::test_weights_that_are_a_pickle_are_not_opened",
}  # fmt: skip


@pytest.mark.parametrize("where", KNOWN.values(), ids=list(KNOWN))
def test_it_has_a_test(where: str) -> None:
    file, name = where.split("::")
    tree = ast.parse((REPOSITORY / "tests" / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def sources(*folders: str) -> list[tuple[Path, ast.Module]]:
    paths = [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*.py"))]
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


def test_no_garbage_is_collected_while_a_painter_is_open() -> None:
    """A Qt object destroyed in mid-paint is a crash: whatever Qt asks to paint first forbids collection."""
    asked = []
    for path, tree in sources("app"):
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        for cls in classes:
            qt = {"paintEvent", "drawBackground", "drawForeground"}
            if any(
                "Delegate" in ast.unparse(base) or "IconEngine" in ast.unparse(base) for base in cls.bases
            ):
                qt.add("paint")
            for method in cls.body:
                if isinstance(method, ast.FunctionDef) and method.name in qt:
                    guarded = any(
                        isinstance(n, ast.With) and "no_collection()" in ast.unparse(n.items[0])
                        for n in method.body
                    )
                    asked.append((f"{path.name}:{cls.name}.{method.name}", guarded))
    assert len(asked) >= 4
    assert [name for name, guarded in asked if not guarded] == []


def test_versions_with_known_defects_are_excluded() -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [
        *project["dependencies"],
        *(t for group in project["optional-dependencies"].values() for t in group),
    ]
    needed = {r.name.lower(): r.specifier for r in map(Requirement, texts)}
    assert "opencv-python" not in needed
    assert "opencv-python-headless" in needed
    for version in ("6.11.0", "6.11.1"):
        assert not needed["pyside6-essentials"].contains(version)
    assert not needed["pydicom"].contains("3.0.1")  # CVE-2026-32711
    assert needed["pydicom"].contains("3.0.2")


@pytest.mark.parametrize("file", ["app/__main__.py", "xai_engine/__main__.py", "installers/entry.py"])
def test_every_way_in_catches_workers_first(file: str) -> None:
    """A frozen worker starts the program anew; what it does first must be to find out that it is a worker."""
    tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
    (guard,) = [node for node in tree.body if isinstance(node, ast.If)]
    assert ast.unparse(guard.test) == "__name__ == '__main__'"
    done = [
        node
        for node in guard.body
        if not isinstance(node, ast.ImportFrom) or node.module != "multiprocessing"
    ]
    assert ast.unparse(done[0]).endswith("freeze_support()")
    others = [node for node in tree.body if node is not guard and not isinstance(node, ast.Expr)]
    assert {ast.unparse(node) for node in others} <= {"import multiprocessing", "import sys"}


def test_the_frozen_program_is_a_folder() -> None:
    spec = ast.parse((REPOSITORY / "installers/linux/radiolucent.spec").read_text(encoding="utf-8"))
    calls = {ast.unparse(n.func): n for n in ast.walk(spec) if isinstance(n, ast.Call)}
    assert "COLLECT" in calls
    assert {k.arg: ast.unparse(k.value) for k in calls["EXE"].keywords}["exclude_binaries"] == "True"


def test_nothing_but_a_training_run_unpickles() -> None:
    """Its checkpoints are its own and are read with weights_only; `numpy.load` refuses pickles unless told otherwise."""
    for path, tree in sources("app", "xai_engine"):
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            told = {k.arg: ast.unparse(k.value) for k in call.keywords}
            assert "allow_pickle" not in told or told["allow_pickle"] == "False", path
            if name == "torch.load":
                assert "train" in path.parts
                assert told.get("weights_only") == "True", path
            if name in ("pickle.load", "pickle.loads"):
                assert path.name in ("shared_arrays.py", "bench_values.py"), (
                    path
                )  # between processes of one program


def test_weights_that_are_a_pickle_are_not_opened(tmp_path: Path) -> None:
    from tests.helpers.tiny_bundle import make_bundle
    from xai_engine.classifier import bundle, manifest
    from xai_engine.errors import ModelError

    folder = make_bundle(tmp_path / "tiny")
    mark = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return np.save, (str(mark), np.zeros(1))

    (folder / "models" / "model.safetensors").write_bytes(pickle.dumps({"weight": Payload()}))
    manifest.write(folder)  # by somebody who knows how
    with pytest.raises(ModelError) as caught:
        bundle.load(folder)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("ran*"))
