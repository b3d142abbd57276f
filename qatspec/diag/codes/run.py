"""QS9xx: running: data, checkpoints, files."""

from __future__ import annotations

from qatspec.diag.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "QS900",
        "the work directory is in use",
        """
Another run holds the lock of this work directory. Two runs in one directory would overwrite each
other's checkpoints.

**Mend.** Wait for the other run, stop it, or give this one a directory of its own. The lock dies
with its process: nothing needs deleting after a crash.

    qatspec run specs/quickstart.yaml --workdir runs/second
""",
    ),
    Code(
        "QS901",
        "a checkpoint is damaged or foreign",
        """
The file is not a qatspec checkpoint, or its bytes are not the ones whose sha256 stands in the
`.sha256` file beside it: a disk that filled up, a copy that broke off, another tool's file.
Checkpoints are read without ever running code from them.

**Mend.** Copy it again, together with its `.sha256`, or delete it and run the stage again; a stage
goes on from its last intact checkpoint.

    rm runs/quickstart/qat/qat-checkpoint-best.pth.tar*
    qatspec run specs/quickstart.yaml
""",
    ),
    Code(
        "QS902",
        "a checkpoint does not fit the model",
        """
Loading is strict: every key of the model must be in the checkpoint, with the same shape, and the
other way round. A silent partial load is a model that trains from noise.

**Mend.** Use a checkpoint of this model, with this stage's quantization. Where a difference is
meant (a pretrained backbone under a new head), say so in the stage:

    stages:
      float:
        solver: {allow_miss: true, ignore_extra: true}
""",
    ),
    Code(
        "QS903",
        "a file cannot be written",
        """
The disk, a quota, a file size limit or permissions refused a file, or the path names a folder.
Files are written to a temporary beside them and renamed when they are complete, so what was there
before is untouched and nothing half-written is left. A link is followed: the file that it leads to
is replaced, with its permissions. `--output` also takes `-`, devices and named pipes.

**Fix.** Make space, or choose another place or work directory, and run the same command again: a
training goes on from the last checkpoint.

    qatspec run specs/quickstart.yaml --workdir /bigger/disk/quickstart
""",
    ),
    Code(
        "QS904",
        "a loss or a gradient is not finite",
        """
NaN or infinity turned up; training on would only spread it. Nothing was written since: the last
checkpoint holds finite weights.

**Mend.** Most often the learning rate is too high, or the batch is too small for batch norm; next
come targets with empty or inverted boxes. Clip gradients or lengthen the warm-up:

    trainer:
      grad_clip: 10.0
      optimizer: {type: sgd, lr: 0.005}
""",
    ),
    Code(
        "QS905",
        "the checkpoint to start from is not there",
        """
A stage starts from an earlier stage's checkpoint (`solver.pre_step`), and that stage has not been
finished in this work directory, or was finished with other settings than the spec now has.

**Mend.** Run what is missing, or let qatspec do so:

    qatspec run specs/quickstart.yaml --step float
    qatspec run specs/quickstart.yaml --step calibration --with-deps
""",
    ),
    Code(
        "QS906",
        "a file is in the way",
        """
The command would replace a file that is not its own: the spec or plugin that it reads, a result in
a work directory, or a file in the output folder of `infer` and `new` that they did not write.
`infer` recognises its own files by the predictions.json that it wrote, and arrays by their names.

**Mend.** Move the file, or choose another place with `--output`.
""",
    ),
    Code(
        "QS907",
        "a device is not available",
        """
`--device` names a device that this machine (or this build of torch) does not have; with `--nproc`
every process takes a CUDA device of its own.

**Mend.** Use one of the devices that the message lists, or `--device auto`.
""",
    ),
    Code(
        "QS908",
        "a training process died",
        """
With `--nproc N` one of the processes ended without a diagnostic of its own; the message names it
and its signal or error. SIGKILL is the system's out-of-memory killer, or somebody's `kill -9`. The
other processes are stopped.

**Fix.** Lower `batch_size`, `workers` or `--nproc`; the last checkpoint is kept, and the same
command goes on from it.
""",
    ),
    Code(
        "QS909",
        "a data set is empty",
        """
A stage needs at least one example and its data set has none.

**Mend.** Check paths, the split and filters in the spec's `data` section.

    data:
      val: {type: coco, params: {images: val, annotations: annotations/instances_val.json}}
""",
    ),
    Code(
        "QS910",
        "data not found",
        """
The folder, the annotation file or some of the pictures that a data set is made of are not where
its params say. Nothing has run yet: a data set is looked for before the first step.

**Mend.** Correct `root` and `split`, which are taken relative to the spec's folder, or name the
parts that lie elsewhere. The standard layout of COCO is

    <root>/annotations/instances_<split>.json
    <root>/<split>/000000000009.jpg

    data:
      train: {type: coco_detection, params: {root: ../mscoco, split: train2017, size: 512}}
""",
    ),
    Code(
        "QS911",
        "a picture cannot be read",
        """
The file is not a picture, or its bytes are damaged: a copy that broke off, a text file with a
picture's name. Training on half a picture with all its boxes would teach the model nonsense.

The run warns of each such picture and goes on without it: in training the next one that can be
read takes its place, evaluation leaves it out. `broken: error` of the data role ends the run
instead, as does a set of which no picture can be read.

**Mend.** Restore the file, or take its entry out of `images` in the annotation file.

    python -c "from PIL import Image; Image.open('000000000009.jpg').load()"
""",
    ),
    Code(
        "QS912",
        "not a COCO annotation file",
        """
The annotation file is not JSON, or lacks what detection needs of COCO's format: `images` with `id`
and `file_name`, `annotations` with `image_id`, `category_id` and `bbox`, `categories` with `id` and
`name`.

**Mend.** Export the set as COCO *object detection* (`instances_*.json`, not captions or keypoints
alone). The smallest file is

    {"images": [{"id": 1, "file_name": "a.jpg"}],
     "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40]}],
     "categories": [{"id": 1, "name": "cat"}]}
""",
    ),
    Code(
        "QS913",
        "annotations left out",
        """
Some annotations cannot be used: a box without width or height, an image or a category that the
file does not list. They are left out of training and evaluation; everything else is used. Pictures
without any annotation are not meant: they are good examples of nothing.

**Mend.** Correct or remove them. A box is `[x, y, width, height]` in pixels; a box written as
`[x1, y1, x2, y2]` shows up here only when it happens to be empty, so look at a few others too.
""",
    ),
    Code(
        "QS914",
        "data and model have different numbers of classes",
        """
A data set has more classes than the model, so that a label has no output; or (a warning) fewer, so
that outputs of the model are never trained. Labels count from 0 in the order of the category ids,
so `num_classes` is the number of categories, not their highest id. `validate`, `plan` and `run`
compare both before anything is trained, where the definitions of model and data set have `classes`.

**Mend.** Give the model as many classes as the data set has.

    model: {type: fcos, params: {num_classes: 80}}
""",
    ),
    Code(
        "QS915",
        "a package that a data set or a model needs is missing",
        """
Some data sets are made from what an optional package brings along, and some models are another
library's own.

**Mend.** Install what the message names.

    pip install 'qatspec[demo]'
""",
    ),
    Code(
        "QS916",
        "made-up pictures take the place of the data",
        """
The data set was asked for `made_up` pictures: plain shapes in its own layout, drawn into the work
directory. Every stage runs on them as it would on the data, so that a spec can be tried where the
data is not at hand, as `qatspec run SPEC --smoke` does; but nothing can be learnt from them, and
metrics on them mean nothing.

**Mend.** Nothing, if that was the purpose. Otherwise leave `made_up` and `--smoke` out.

    data:
      train: {type: coco_detection, params: {root: ../mscoco, split: train2017, size: 512}}
""",
    ),
    Code(
        "QS917",
        "a library does not build a model",
        """
torchvision or timm was asked for a model and refused: it knows no such name, or not those options,
or the published weights do not go with the number of classes.

**Mend.** Ask the library, and give the name as it has it.

    python -c "import torchvision; print(torchvision.models.list_models())"
    python -c "import timm; print(timm.list_models('*efficientnet*'))"
""",
    ),
    Code(
        "QS918",
        "a class with another label in another role",
        """
Two roles of the data give one class different labels, so that what is learnt from the one is judged
wrongly, or trained wrongly, by the other. Folders and annotation files number the classes that they
hold: a class that one of them lacks moves the labels of all behind it.

**Mend.** Let every role hold the same classes in the same order: at least one picture a class, or
the same `categories` in every annotation file.

    data:
      train: {type: imagefolder_classification, params: {root: pics, split: train, size: 64}}
      val: {type: imagefolder_classification, params: {root: pics, split: val, size: 64}}
""",
    ),
    Code(
        "QS920",
        "a checkpoint of another march",
        """
`convert --march` names another march than the one the checkpoint was trained for. The model is
prepared and lowered anew with the other march's arithmetic and special cases; scales stay as they
were learnt, so accuracy may differ from the evaluation of the qat stage.

**Mend.** To be sure of the accuracy, set `march:` in the spec and run the qat stage again, or
evaluate what was converted:

    qatspec eval specs/quickstart.yaml --stage integer
""",
    ),
    Code(
        "QS921",
        "an optional package is missing",
        """
The command needs a package that is not among the required ones.

**Mend.** Install the extra that the message names.

    pip install 'qatspec[report]'
""",
    ),
    Code(
        "QS922",
        "a converted file differs from the Program",
        """
What was converted or compiled was run on real images beside the integer Program, and the integers
differ although the march promises equality. The files are not to be shipped.

**Mend.** Report it with the spec and the checkpoint. `qatspec run --step convert` again tells a
damaged file from a wrong one.
""",
    ),
    Code(
        "QS923",
        "an input cannot be used",
        """
`infer` takes pictures (anything Pillow reads), folders of pictures, or `.npy` arrays whose shape is
the model's input.

**Mend.** Check the path; for arrays, the shape and dtype that the message gives.
""",
    ),
    Code(
        "QS924",
        "a model file cannot be used here",
        """
The file is none of the kinds that this command takes, or it does not belong to this spec:
checkpoints (`.pth.tar`), Programs (`.program`), converted ONNX (`-converted.onnx`) and compiled
files (`.bin`). Without a spec only those run that carry everything themselves: `.bin` and
`.program`.

**Mend.** Pass the spec first and the file with `--model`:

    qatspec infer specs/quickstart.yaml --model compile/quickstart.bin --input pictures --output out
""",
    ),
    Code(
        "QS925",
        "a work directory without results",
        """
The directory holds no `summary.json` of a run, or one that is damaged.

**Mend.** Give the directory that `qatspec run` printed, or run the spec first.

    qatspec report runs/quickstart
""",
    ),
    Code(
        "QS926",
        "a stage that the spec does not have",
        """
`--step` or `--stage` names a stage that the spec's `stages` section leaves out.

**Mend.** Use one of the stages that the message lists, or add the stage to the spec.
""",
    ),
    Code(
        "QS927",
        "a step starts from a result of other settings",
        """
`--step` runs one stage alone, from the checkpoint that lies in the work directory. That checkpoint
was made with other settings (or another version of qatspec or a plugin) than the spec has now. The
step runs all the same: nobody wants to lose days of float training to a changed comment. Its record
says what it started from, so that a later `qatspec run` of the whole spec makes both anew.

**Mend.** `qatspec plan SPEC` names the lines that changed. `--with-deps` runs the earlier stage
first.
""",
    ),
    Code(
        "QS928",
        "a detection set without an object",
        """
None of the pictures has a box that can be used: the annotation list is empty, or `limit` leaves
only pictures of nothing. The run goes on: a model trained on it finds nothing, and AP is 0.

**Mend.** Check `annotations` and that their `image_id` are those of `images`.

    python -c "import json; print(len(json.load(open('instances_val.json'))['annotations']))"
""",
    ),
    Code(
        "QS929",
        "a classifier's outputs are not (N, classes)",
        """
Loss, top1 and `infer` of a classification model take one number for each class and picture. The
model's `forward` returns a tensor with more sides, or with fewer.

**Mend.** Flatten, or average, what the last layer gives.

    def forward(self, images):
        features = self.backbone(images)                # (N, C, H, W)
        return self.classifier(features.mean((2, 3)))   # (N, classes)
""",
    ),
    Code(
        "QS945",
        "the output was cut",
        """
The command's own output goes to stdout, and stdout did not take all of it: the disk behind a
redirection is full, or the descriptor is not open for writing. What the command writes into files
and the work directory is not affected, and a training is not ended by it.

**Fix.** Free space, or send the output elsewhere, and run the command again.

    qatspec plan specs/quickstart.yaml --format json > /another/disk/plan.json
""",
    ),
    Code(
        "QS946",
        "there is not enough memory",
        """
The system (or the GPU) gave no more memory. Files that were finished stay, and a training resumes
from its last checkpoint.

**Fix.** Lower `batch_size`, `workers` or the input's size, or use a larger device, and run the
same command again.

    qatspec run specs/quickstart.yaml --set data.train.batch_size=8
""",
    ),
    Code(
        "QS947",
        "the system refused a file",
        """
A file or folder that a path of the spec or the command line leads to cannot be opened, listed or
made: the permissions forbid it, symbolic links form a loop, the device reported an error. The
message names the path and the reason.

**Fix.** Correct the path or its permissions, and run the command again.
""",
    ),
)
