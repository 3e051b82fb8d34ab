"""The staff catalogue: providers, models, versioned prices, targets, fallback chains. `chat.loading` writes these rows.

ProviderState is no part of it: `chat.states` keeps there what providers want back in a later turn.

`CatalogStamp` has one row; every change of the catalogue moves its version in the same transaction, and each serving
process compares it twice a second to know that its snapshot is stale.
"""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from simple_history.models import HistoricalRecords

from billing.models import Workspace
from billing.models.fields import MicrocreditsField, OptionalMicrocreditsField, money_rules

SLUG = r"^[a-z0-9][a-z0-9._:/-]{0,127}$"
slug_rule = RegexValidator(SLUG, "Lower-case letters, digits and . _ : / - only, at most 128 characters.")

CAPABILITY_FLAGS = {
    "streaming": "supports_streaming",
    "vision": "supports_vision",
    "pdf": "supports_pdf",
    "tools": "supports_tools",
    "json_mode": "supports_json_mode",
    "json_schema": "supports_json_schema",
    "audio_input": "supports_audio_input",
    "reasoning": "is_reasoning",
}

IMAGE_RULE = {
    "base": "image_base_tokens",
    "tile": "image_tile_tokens",
    "tile_pixels": "image_tile_pixels",
    "long_side_pixels": "image_long_side_pixels",
    "most_tiles": "image_most_tiles",
}
"""The fields of `ImageTokens`, and where a model keeps each; empty is what is usual."""


class Provider(models.Model):
    class Dialect(models.TextChoices):
        OPENAI = "openai", "OpenAI"
        ANTHROPIC = "anthropic", "Anthropic"
        GEMINI = "gemini", "Gemini"

    slug = models.CharField(max_length=64, unique=True, validators=[slug_rule])
    dialect = models.CharField(max_length=16, choices=Dialect.choices)
    base_url = models.CharField(max_length=500, help_text="Address of the API, such as https://api.openai.com/v1.")
    api_key_env = models.CharField(
        max_length=100, blank=True, default="", help_text="Environment variable that holds the key, if no key is entered here."
    )
    api_key_encrypted = models.BinaryField(default=bytes, blank=True, editable=False)
    api_key_hint = models.CharField(max_length=8, blank=True, default="", editable=False, help_text="Last four characters.")
    allow_private_address = models.BooleanField(default=False, help_text="The address may lie in a private network.")
    is_enabled = models.BooleanField("enabled", default=True)
    history = HistoricalRecords(excluded_fields=["api_key_encrypted"])

    class Meta:
        ordering = ["slug"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(dialect__in=["openai", "anthropic", "gemini"]), name="provider_dialect_is_known"
            ),
            models.CheckConstraint(
                condition=models.Q(base_url__regex=r"^(https?://|sandbox:)"), name="provider_address_is_http_or_sandbox"
            ),
        ]

    def __str__(self) -> str:
        return self.slug


class CatalogModel(models.Model):
    class Modality(models.TextChoices):
        CHAT = "chat", "Chat"
        EMBEDDING = "embedding", "Embedding"
        IMAGE = "image", "Image"
        AUDIO = "audio", "Audio"

    slug = models.CharField(max_length=128, unique=True, validators=[slug_rule])
    name = models.CharField(max_length=128)
    owned_by = models.CharField(max_length=64)
    modality = models.CharField(max_length=12, choices=Modality.choices, default=Modality.CHAT)
    context_window = models.PositiveIntegerField(validators=[MinValueValidator(1), MaxValueValidator(100_000_000)])
    max_output_tokens = models.PositiveIntegerField(validators=[MinValueValidator(1), MaxValueValidator(100_000_000)])
    supports_streaming = models.BooleanField("supportsStreaming", default=True)
    supports_vision = models.BooleanField("supportsVision", default=False)
    supports_pdf = models.BooleanField("supportsPdf", default=False)
    supports_tools = models.BooleanField("supportsTools", default=False)
    supports_json_mode = models.BooleanField("supportsJsonMode", default=False)
    supports_json_schema = models.BooleanField("supportsJsonSchema", default=False)
    supports_audio_input = models.BooleanField("supportsAudioInput", default=False)
    is_reasoning = models.BooleanField("isReasoning", default=False)
    has_context_fallback = models.BooleanField(
        "falls back on context too long",
        default=False,
        help_text="Its fallback chain serves what is too long for it, by models with a larger context window.",
    )
    deprecated_on = models.DateField(
        "deprecation date", null=True, blank=True, help_text="From this day (UTC) on the model may be gone; empty for never."
    )
    image_base_tokens = models.PositiveIntegerField(
        "tokens per image", null=True, blank=True, validators=[MaxValueValidator(100_000)], help_text="Empty: what is usual."
    )
    image_tile_tokens = models.PositiveIntegerField(
        "tokens per tile", null=True, blank=True, validators=[MaxValueValidator(100_000)]
    )
    image_tile_pixels = models.PositiveIntegerField(
        "pixels per side of a tile", null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(100_000)]
    )
    image_long_side_pixels = models.PositiveIntegerField(
        "pixels of the long side, at most", null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(100_000)]
    )
    image_most_tiles = models.PositiveIntegerField(
        "tiles, at most", null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(1_000_000)]
    )
    is_enabled = models.BooleanField("enabled", default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    history = HistoricalRecords()

    class Meta:
        verbose_name = "model"
        ordering = ["slug"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(modality__in=["chat", "embedding", "image", "audio"]), name="model_modality_is_known"
            ),
            models.CheckConstraint(
                condition=models.Q(context_window__gt=0, max_output_tokens__gt=0), name="model_limits_are_positive"
            ),
            models.CheckConstraint(
                condition=(models.Q(image_tile_pixels__isnull=True) | models.Q(image_tile_pixels__gt=0))
                & (models.Q(image_long_side_pixels__isnull=True) | models.Q(image_long_side_pixels__gt=0)),
                name="model_image_sizes_are_positive",
            ),
        ]

    def __str__(self) -> str:
        return self.slug


class Price(models.Model):
    """One price version of a model. Never edited: it begins at a moment, and a charge keeps the id of the row it used.

    One that has not begun may be withdrawn; its row stays. `chat.catalog.versions` says which one counts.
    """

    model = models.ForeignKey(CatalogModel, on_delete=models.CASCADE, related_name="prices")
    input_microcredits = MicrocreditsField(help_text="Microcredits per million tokens.")
    output_microcredits = MicrocreditsField()
    cached_input_microcredits = OptionalMicrocreditsField(null=True, blank=True, help_text="Empty: the input price.")
    cache_write_microcredits = OptionalMicrocreditsField(null=True, blank=True, help_text="Empty: the input price.")
    audio_input_microcredits = OptionalMicrocreditsField(null=True, blank=True, help_text="Empty: the input price.")
    reasoning_microcredits = OptionalMicrocreditsField(null=True, blank=True, help_text="Empty: the output price.")
    pdf_page_microcredits = MicrocreditsField(default=0, help_text="Microcredits per converted PDF page.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # By the database too: a process of the version before makes versions until it is gone.
    effective_at = models.DateTimeField(
        "in force from", default=timezone.now, db_default=Now(), editable=False, help_text="From this moment on it counts."
    )
    withdrawn_at = models.DateTimeField(null=True, blank=True, editable=False)

    AMOUNTS = (
        "input_microcredits",
        "output_microcredits",
        "cached_input_microcredits",
        "cache_write_microcredits",
        "audio_input_microcredits",
        "reasoning_microcredits",
        "pdf_page_microcredits",
    )

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(input_microcredits__gte=0, output_microcredits__gte=0, pdf_page_microcredits__gte=0)
                & (models.Q(cached_input_microcredits__isnull=True) | models.Q(cached_input_microcredits__gte=0))
                & (models.Q(cache_write_microcredits__isnull=True) | models.Q(cache_write_microcredits__gte=0))
                & (models.Q(audio_input_microcredits__isnull=True) | models.Q(audio_input_microcredits__gte=0))
                & (models.Q(reasoning_microcredits__isnull=True) | models.Q(reasoning_microcredits__gte=0)),
                name="price_is_not_negative",
            ),
            models.CheckConstraint(
                condition=models.Q(withdrawn_at__isnull=True) | models.Q(withdrawn_at__lt=models.F("effective_at")),
                name="price_is_withdrawn_before_it_begins",
            ),
            *money_rules(
                "price",
                "input_microcredits",
                "output_microcredits",
                "cached_input_microcredits",
                "cache_write_microcredits",
                "audio_input_microcredits",
                "reasoning_microcredits",
                "pdf_page_microcredits",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} #{self.pk}"


class Target(models.Model):
    """One upstream model at one provider that can serve a catalogue model."""

    model = models.ForeignKey(CatalogModel, on_delete=models.CASCADE, related_name="targets")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="targets")
    upstream_model = models.CharField(max_length=200)
    weight = models.PositiveSmallIntegerField(default=1)
    retries = models.PositiveSmallIntegerField(default=0, validators=[MaxValueValidator(1)])
    connect_s = models.FloatField(default=5)
    first_token_s = models.FloatField(null=True, blank=True, help_text="Empty: 60, or 300 for a reasoning model.")
    idle_s = models.FloatField(default=60)
    total_s = models.FloatField(default=600)
    quirks = models.JSONField(default=list, blank=True)
    history = HistoricalRecords()
    fallback_statuses = models.JSONField(default=list, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model", "provider", "upstream_model"], name="target_is_one_per_upstream_model"),
            models.CheckConstraint(condition=models.Q(retries__lte=1), name="target_retries_at_most_once"),
            models.CheckConstraint(condition=models.Q(weight__gte=1, weight__lte=1000), name="target_weight_is_1_to_1000"),
            models.CheckConstraint(
                condition=models.Q(connect_s__gt=0, idle_s__gt=0, total_s__gt=0)
                & (models.Q(first_token_s__isnull=True) | models.Q(first_token_s__gt=0)),
                name="target_time_limits_are_positive",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.upstream_model} at {self.provider}"


class FallbackChain(models.Model):
    """The chain of one source model: the staff default, or one workspace's own when `workspace` is set.

    `retries` and `fallback_statuses` are how a workspace has the source model itself tried, and those of a link how it has
    that one tried, instead of what the targets of the catalogue say; null for as they say.
    """

    source = models.ForeignKey(CatalogModel, on_delete=models.CASCADE, related_name="chains")
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    retries = models.PositiveSmallIntegerField(null=True, blank=True, editable=False)
    fallback_statuses = models.JSONField(null=True, blank=True, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(retries__isnull=True) | models.Q(retries__lte=1), name="chain_retries_once"
            ),
            models.UniqueConstraint(
                fields=["source"], condition=models.Q(workspace__isnull=True), name="chain_is_one_default_per_model"
            ),
            models.UniqueConstraint(
                fields=["source", "workspace"],
                condition=models.Q(workspace__isnull=False),
                name="chain_is_one_per_model_and_workspace",
            ),
        ]

    def __str__(self) -> str:
        return f"chain of {self.source}"


class ChainLink(models.Model):
    chain = models.ForeignKey(FallbackChain, on_delete=models.CASCADE, related_name="links")
    position = models.PositiveSmallIntegerField(validators=[MinValueValidator(1), MaxValueValidator(8)])
    model = models.ForeignKey(CatalogModel, on_delete=models.CASCADE, related_name="+")
    retries = models.PositiveSmallIntegerField(null=True, blank=True, editable=False)
    fallback_statuses = models.JSONField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(retries__isnull=True) | models.Q(retries__lte=1), name="chain_link_retries_once"
            ),
            models.UniqueConstraint(fields=["chain", "position"], name="chain_link_is_one_per_position"),
            models.UniqueConstraint(fields=["chain", "model"], name="chain_link_is_one_per_model"),
            models.CheckConstraint(condition=models.Q(position__gte=1, position__lte=8), name="chain_has_at_most_8_links"),
        ]

    def __str__(self) -> str:
        return f"{self.position}. {self.model}"


class CatalogDefault(models.Model):
    """Catalogue-wide defaults; one row."""

    singleton = models.BooleanField(default=True, unique=True, editable=False)
    pdf_page_microcredits = MicrocreditsField(default=0, help_text="Fee per converted page where a price names none.")
    history = HistoricalRecords()

    class Meta:
        verbose_name = "catalogue default"
        constraints = [
            models.CheckConstraint(condition=models.Q(singleton=True), name="catalog_default_is_one_row"),
            models.CheckConstraint(
                condition=models.Q(pdf_page_microcredits__gte=0), name="catalog_default_fee_is_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return "Catalogue defaults"


class CatalogStamp(models.Model):
    singleton = models.BooleanField(default=True, unique=True, editable=False)
    version = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(singleton=True), name="catalog_stamp_is_one_row")]

    def __str__(self) -> str:
        return str(self.version)


class ProviderState(models.Model):
    """What the upstream model `maker` wants back with one tool call, kept for the workspace that got the call."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+")
    call_digest = models.CharField(max_length=64, help_text="SHA-256 of the tool call's id, in hex.")
    maker = models.CharField(max_length=220)
    data_encrypted = models.BinaryField()
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "call_digest"], name="provider_state_is_one_per_call")]

    def __str__(self) -> str:
        return self.call_digest[:12]
