"""What this package touches of other libraries that these do not promise to keep.

Each is touched in a module of this folder and nowhere else. A test goes through the list and says which name of which
library has changed.
"""

from typing import NamedTuple


class Touched(NamedTuple):
    """A name that another library may change."""

    library: str
    name: str
    """Dotted, from its module on; an attribute that instances have alone is named after their class."""
    where: str
    """The module of this folder."""
    why: str
    takes: str | None = None
    """The names of the parameters that it must have, where it is called, wrapped or overridden by them."""


TOUCHED = (
    # anomalib: its names, its command and its engine
    Touched(
        "anomalib", "anomalib.models.ALLOWED_MODULES", "registration", "get_model refuses models of other packages"
    ),
    Touched(
        "anomalib",
        "anomalib.models._get_model_class_by_name",
        "registration",
        "get_model finds models of anomalib alone",
        "name",
    ),
    Touched(
        "anomalib",
        "anomalib.pipelines.benchmark.job.BenchmarkJob.collect",
        "registration",
        "its table fails on models of different arguments and metrics",
        "results",
    ),
    Touched("anomalib", "anomalib.pipelines.benchmark.job.pd", "registration", "the table is made of it"),
    Touched("anomalib", "anomalib.cli.cli", "errors", "shows whether the command runs"),
    Touched(
        "anomalib",
        "anomalib.engine.engine.create_versioned_dir",
        "results_folder",
        "fails where a test made `latest` a folder",
        "root_dir",
    ),
    Touched(
        "anomalib",
        "anomalib.engine.Engine.export",
        "engine_export",
        "exports a model built of the checkpoint alone, not the given one",
        "model ckpt_path",
    ),
    Touched(
        "anomalib",
        "anomalib.models.AnomalibModule._compress_ov_model",
        "engine_export",
        "quantises resizing and cosines, too",
        "model compression_type datamodule",
    ),
    # anomalib: data
    Touched(
        "anomalib", "anomalib.data.AnomalibDataModule._setup", "datamodules", "the hook that reads the splits", "_stage"
    ),
    Touched(
        "anomalib",
        "anomalib.data.AnomalibDataModule._create_test_split",
        "datamodules",
        "drops normal test images, or fails where there are none",
        "",
    ),
    Touched(
        "anomalib", "anomalib.data.AnomalibDataModule._create_val_split", "datamodules", "takes test images away", ""
    ),
    Touched("anomalib", "anomalib.data.AnomalibDataModule._is_setup", "datamodules", "a copy is to be set up anew"),
    Touched(
        "anomalib",
        "anomalib.data.AnomalibDataModule._update_augmentations",
        "datamodules",
        "is part of a `setup` that reads other splits",
        "",
    ),
    Touched(
        "anomalib",
        "anomalib.data.AnomalibDataset._samples",
        "datamodules",
        "its setter requires a file for every image",
    ),
    Touched("anomalib", "anomalib.data.datasets.image.visa.CATEGORIES", "datamodules", "the categories of a dataset"),
    Touched(
        "anomalib",
        "anomalib.data.PredictDataset.__class__",
        "datamodules",
        "existing datasets become ones of a subclass",
    ),
    Touched(
        "anomalib",
        "anomalib.data.datasets.image.tabular.make_tabular_dataset",
        "tables",
        "fails with pandas 3, which takes its columns for text",
    ),
    Touched(
        "anomalib",
        "anomalib.data.datasets.image.mvtec_loco.make_dataset",
        "tables",
        "fails with pandas 3, which takes its columns for text",
    ),
    # anomalib: components
    Touched(
        "anomalib",
        "anomalib.post_processing.PostProcessor._normalize",
        "open_post_processor",
        "clamps, and is not strictly increasing",
        "preds norm_min norm_max threshold",
    ),
    Touched(
        "anomalib",
        "anomalib.post_processing.PostProcessor._image_threshold",
        "open_post_processor",
        "the public one may be that of pixels",
    ),
    Touched(
        "anomalib",
        "anomalib.post_processing.PostProcessor._pixel_threshold",
        "open_post_processor",
        "the public one may be that of images",
    ),
    Touched(
        "anomalib",
        "anomalib.post_processing.PostProcessor._image_threshold_metric",
        "open_post_processor",
        "is given raw scores before they are changed",
    ),
    Touched(
        "anomalib",
        "anomalib.post_processing.PostProcessor._pixel_threshold_metric",
        "open_post_processor",
        "keeps every pixel of the validation data",
    ),
    Touched(
        "anomalib",
        "anomalib.models.components.base.memory_bank_module.MemoryBankMixin._is_fitted",
        "anomalib_models",
        "shows whether a member of an ensemble is trained",
    ),
    Touched(
        "anomalib",
        "anomalib.models.image.winclip.torch_model.WinClipModel._get_window_embeddings",
        "anomalib_models",
        "is written for open_clip before 2.26.1",
    ),
    # Lightning
    Touched(
        "lightning",
        "lightning.pytorch.LightningModule._trainer",
        "trainers",
        "the public one raises an error if none is attached",
    ),
    Touched("lightning", "lightning.pytorch.LightningModule.trainer.fset", "trainers", "attaching is overridden"),
    Touched("lightning", "lightning.pytorch.LightningModule._hparams", "tensors", "a copy may have others"),
    Touched(
        "lightning", "lightning.pytorch.loops.fit_loop._FitLoop.max_epochs", "trainers", "is set before a training"
    ),
    Touched("lightning", "lightning.pytorch.Trainer._default_root_dir", "trainers", "processes agree on a folder"),
    Touched(
        "lightning",
        "lightning.pytorch.loops.fit_loop._FitLoop._data_source",
        "trainers",
        "has the given loaders before they run",
    ),
    Touched(
        "lightning",
        "lightning.pytorch.loops.evaluation_loop._EvaluationLoop._data_source",
        "trainers",
        "has the given loaders before they run",
    ),
    Touched(
        "lightning",
        "lightning.pytorch.loops.prediction_loop._PredictionLoop._data_source",
        "trainers",
        "has the given loaders before they run",
    ),
    Touched(
        "lightning",
        "lightning.pytorch.strategies.Strategy.process_dataloader",
        "trainers",
        "every loader passes it before its workers start",
        "dataloader",
    ),
    Touched("lightning", "lightning.pytorch.utilities.CombinedLoader.flattened", "trainers", "lists nested loaders"),
    Touched(
        "lightning",
        "lightning.pytorch.LightningModule.configure_optimizers",
        "given_optimizer",
        "anomalib's `train` leaves --optimizer unused",
    ),
    Touched("lightning", "lightning.pytorch.cli.SaveConfigCallback.config", "given_optimizer", "has --optimizer"),
    # torch
    Touched("torch", "torch.Tensor._version", "tensors", "shows whether cached features are stale"),
    Touched(
        "torch", "torch.nn.Module._modules", "tensors", "a copy has parts of its own; a pickle has them by this name"
    ),
    Touched("torch", "torch.nn.Module._parameters", "tensors", "a pickle of a module has them by this name"),
    Touched("torch", "torch.nn.Module._buffers", "tensors", "a pickle of a module has them by this name"),
    Touched("torch", "torch._dynamo.maybe_mark_dynamic", "compiler", "a graph serves batches of any size", "t index"),
    Touched(
        "torch", "torch._dynamo.exc.BackendCompilerFailed", "compiler", "is what a machine without a compiler raises"
    ),
    Touched(
        "torch",
        "torch._dynamo.mutation_guard.install_generation_tagging_init",
        "compiler",
        "replaces the constructor of modules by one that jsonargparse does not find",
        "",
    ),
    Touched("torch", "torch._dynamo.utils.is_parameter_freezing", "compiler", "such graphs go when weights change", ""),
    Touched("torch", "torch.nn.Module.__init__", "compiler", "is to be found by the name that it then has"),
    Touched("Python", "types.FunctionType.__code__", "compiler", "graphs are counted by the code of a function"),
    Touched("torch", "torch.utils.data.DataLoader.dataset", "trainers", "is refused as an attribute of a loader"),
    Touched("torch", "torch.utils.data.DataLoader.batch_size", "trainers", "is refused as an attribute of a loader"),
    Touched("torch", "torch.utils.data.DataLoader.batch_sampler", "trainers", "is refused as an attribute of a loader"),
    # jsonargparse, pandas, Python
    Touched(
        "jsonargparse",
        "jsonargparse.DefaultHelpFormatter._get_help_string",
        "help",
        "adds types, and defaults without meaning",
        "action",
    ),
    Touched("Python", "sys.excepthook", "errors", "prints pages for an error that the user can put right"),
    Touched("Python", "types.FrameType.f_locals", "errors", "has what a constructor raised"),
    Touched(
        "Python", "importlib.machinery.SourceFileLoader.exec_module", "registration", "called when a module is imported"
    ),
    Touched(
        "jsonargparse",
        "jsonargparse.ArgumentParser.instantiate_classes",
        "command_line",
        "the model is built before --ckpt_path is read",
        "cfg",
    ),
    Touched(
        "jsonargparse",
        "jsonargparse.ArgumentParser.error",
        "command_line",
        "a refused argument may be a former one, whose new place is printed",
        "message ex",
    ),
    Touched(
        "jsonargparse",
        "jsonargparse._typehints.raise_union_unexpected_value",
        "errors",
        "its local `exceptions` holds what a constructor raised",
        "exceptions",
    ),
    Touched("pandas", "pandas.options.future.infer_string", "tables", "columns of objects, as with pandas 2"),
)
