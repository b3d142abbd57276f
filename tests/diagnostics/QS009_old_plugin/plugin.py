from qatspec.api import NO_PARAMS, ModelDef, hookimpl

qatspec_api = 0


@hookimpl
def qatspec_models():
    return [ModelDef(name="resnet", summary="never", params=NO_PARAMS, build=lambda params: None)]
