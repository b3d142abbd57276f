"""QS0xx: plugins and their faults."""

from __future__ import annotations

from qatspec.diag.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "QS001",
        "a plugin cannot be loaded",
        """\
An installed plugin raised while it was imported, so nothing it registers is known. Specs that use
nothing of it are not touched; this one asks for a name that nobody else provides.

**Mend.** Read the reason in the message: usually a missing package or a version that does not fit.
`qatspec plugins list` shows every plugin with its fault, `--debug` the whole traceback.

**Example.** `model.type: my_net` where `my_plugin==1.0` fails with
`ModuleNotFoundError: No module named 'timm'`: run `pip install timm`.
""",
    ),
    Code(
        "QS002",
        "two plugins register one name",
        """\
Names of models, data sets, presets and marches are global, so that a spec means the same thing on
every machine. Two plugins register the same one; picking either would be a guess.

**Mend.** Uninstall one of the two distributions that the message names, or ask its author for
another name (a prefix of the package's own helps).

Specs that do not use the name run on. Fuse patterns and quant handlers are tried on every model:
two of one name (or two handlers of one op) are a warning, and an error only where the model has
their ops.
""",
    ),
    Code(
        "QS003",
        "a plugin implements a hook that does not exist",
        """\
A function marked `@hookimpl` has a name or an argument that no hook of qatspec has. It would never
be called, and what it registers would silently be missing.

**Mend.** (plugin authors) Take the name and the arguments from `qatspec/hookspecs.py`; the message
names the nearest hook. `qatspec.testing.PluginConformance` finds this before your users do.

**Example.** `def qatspec_modelz():` should be `def qatspec_models():`.
""",
    ),
    Code(
        "QS004",
        "a plugin raised in a hook",
        """\
A hook of the named plugin raised an exception instead of returning its records. Nothing else of
that hook is used; other plugins are not touched.

**Mend.** Report it to the author of the distribution in the message, with what `--debug` prints.
""",
    ),
    Code(
        "QS005",
        "a plugin returned something that is not a record",
        """\
A hook must return an iterable of its records (`qatspec_models` -> `ModelDef`, ...) whose names
match `[a-z][a-z0-9_]*` and whose params schemas are valid JSON Schema.

**Mend.** (plugin authors) The message says what came instead; see `qatspec/hookspecs.py`.
""",
    ),
    Code(
        "QS006",
        "the spec loads code, which was not allowed",
        """\
`plugins: [./my_model.py]` runs a Python file that came with the spec. qatspec never runs code
that a YAML file names unless you say so.

**Mend.** Read the file, then pass `--allow-code` (in Python: `load(path, allow_code=True)`).
""",
    ),
    Code(
        "QS007",
        "a file plugin cannot be loaded",
        """\
The Python file that `plugins` names is missing, or raised while it was imported.

**Mend.** Paths are relative to the file that names them. For an exception, mend the file;
`--debug` prints the traceback.
""",
    ),
    Code(
        "QS008",
        "a plugin's own check",
        """\
A plugin looked at the spec (hook `qatspec_check`) and found something. The message, the place and
the advice are the plugin's; `origin` names its distribution.
""",
    ),
    Code(
        "QS009",
        "a plugin is written for another version of the plugin API",
        """\
The plugin API has a version, `qatspec.api.API_VERSION`. It rises when a plugin that was written for
the previous version may break. A plugin states the version that it was written for by
`qatspec_api = 2` in the module of its entry point. This plugin states a version that does not fit,
or imports a name that was renamed, so nothing that it registers is used.

A plugin of version 1 is loaded as long as it uses no name that version 2 renamed. Otherwise the
notes list each old name that it uses, with its line and the new name, and then every renamed name.

**Fix.** Install a version of the plugin, or of qatspec, that fits; the message says which one
is older. (plugin authors) Use the new names, state `qatspec_api = 2`, and run
`qatspec plugins check DIST`. Methods and fields are matched by name alone: if the listed line
uses an object that is not one of qatspec's, stating the version is enough.
""",
    ),
    Code(
        "QS010",
        "a model or data set of a plugin breaks its interface",
        """\
A model that `ModelDef.build` returns has `forward`, `loss` and `predict`; a data set that
`DatasetDef.open` returns has `classes`, `__len__`, `sample` and `evaluate`. One of them is missing,
or returned something of another type or shape. The message says which, what was expected and what
was returned; the place is the line of the plugin that defines it.

**Fix.** (plugin authors) `loss` returns a scalar tensor, or a mapping of names to scalar tensors;
`predict` a list with one mapping of tensors for each image; `evaluate` a mapping of names to
numbers with the key that `DatasetDef.metric` names; `sample` a `Sample`.

    def predict(self, outputs):
        return [{"mask": scores.argmax(0)} for scores in outputs["mask"]]
""",
    ),
)
