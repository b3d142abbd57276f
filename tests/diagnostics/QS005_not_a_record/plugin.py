from qatspec.api import hookimpl


@hookimpl
def qatspec_models():
    return [{"name": "resnet"}]
