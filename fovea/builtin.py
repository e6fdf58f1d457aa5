"""Our own components, registered by the same door as a stranger's."""

from fovea.hookspecs import Register, hookimpl


@hookimpl
def register_patch_extractors(register: Register) -> None:
    """Register the extractors."""
    extract = "fovea.extract"
    register(
        "integral",
        f"{extract}.integral:IntegralExtractor",
        config=f"{extract}.config:IntegralConfig",
    )
    register(
        "pyramid",
        f"{extract}.pyramid:PyramidExtractor",
        config=f"{extract}.config:PyramidConfig",
    )
    register("resize", f"{extract}.resize:ResizeExtractor", config=f"{extract}.config:ResizeConfig")


@hookimpl
def register_context_builders(register: Register) -> None:
    """Register the contexts."""
    context = "fovea.context"
    register(
        "multizoom",
        f"{context}.multizoom:MultiZoom",
        config=f"{context}.config:MultiZoomConfig",
    )
    register("foveal", f"{context}.foveal:Foveal", config=f"{context}.config:FovealConfig")
    register("grid", f"{context}.grid:Grid", config=f"{context}.config:GridConfig")


@hookimpl
def register_backbones(register: Register) -> None:
    """Register the backbones."""
    register(
        "timm_vit", "fovea.backbone.timm_vit:TimmViT", config="fovea.backbone.config:TimmViTConfig"
    )


@hookimpl
def register_ssl_objectives(register: Register) -> None:
    """Register the objectives."""
    register(
        "dino_seq2global",
        "fovea.objective.seq2global:Seq2Global",
        config="fovea.objective.config:Seq2GlobalConfig",
    )


@hookimpl
def register_gaze_policies(register: Register) -> None:
    """Register the policies."""
    register("random", "fovea.policy.random:RandomGaze", config="fovea.policy.config:RandomConfig")
    register("gmm", "fovea.policy.gmm:MixturePolicy", config="fovea.policy.config:MixtureConfig")


@hookimpl
def register_task_heads(register: Register) -> None:
    """Register the task heads."""
    register(
        "linear", "fovea.task_head.linear:Linear", config="fovea.task_head.config:LinearConfig"
    )
    register(
        "transformer",
        "fovea.task_head.transformer:TransformerHead",
        config="fovea.task_head.config:TransformerConfig",
    )


@hookimpl
def register_data_sets(register: Register) -> None:
    """Register the data sets."""
    register(
        "fashion", "fovea.data.fashion:FashionScenes", config="fovea.data.config:FashionConfig"
    )
    register("folder", "fovea.data.folder:ImageFolder", config="fovea.data.config:FolderConfig")
    register("shards", "fovea.data.shards:Shards", config="fovea.data.config:ShardsConfig")
    register(
        "hugging_face",
        "fovea.data.hugging_face:HuggingFace",
        config="fovea.data.config:HuggingFaceConfig",
    )


@hookimpl
def register_loggers(register: Register) -> None:
    """Register the loggers."""
    logger = "fovea.logger"
    register(
        "tensorboard",
        f"{logger}.tensorboard:TensorBoard",
        config=f"{logger}.config:TensorBoardConfig",
    )
    register("wandb", f"{logger}.wandb:Wandb", config=f"{logger}.config:WandbConfig")
    register("trackio", f"{logger}.trackio:Trackio", config=f"{logger}.config:TrackioConfig")
