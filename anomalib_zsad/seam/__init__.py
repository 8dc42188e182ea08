"""What this package changes in others, and where.

| name | why | module |
|---|---|---|
| `ALLOWED_MODULES`, `_get_model_class_by_name` and attributes of `anomalib.models` | `get_model` | `names` |
| attributes of `anomalib.data` | `get_datamodule` | `names` |
| `anomalib.pipelines.benchmark.job.BenchmarkJob.collect` | models with other arguments and metrics | `names` |
| `anomalib.engine.Engine.export` | exports a model built of the checkpoint alone, not the given one | `export` |
| `jsonargparse.ArgumentParser.instantiate_classes` | the model is built before `--ckpt_path` is read | `command_line` |
| `jsonargparse.ArgumentParser.error` | former arguments are told their new place | `command_line` |
| a local of `jsonargparse._typehints.raise_union_unexpected_value` | holds what a constructor raised | `errors` |
| `sys.excepthook` in the command `anomalib` | errors that its user can put right fill pages | `errors` |
| `anomalib.engine.engine.create_versioned_dir` | fails where a test made `latest` a folder | `results` |
"""
