"""What is known of documents that were sent, and where their converted pages are kept."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from billing.models import Workspace


class Document(models.Model):
    """A PDF of a workspace, by the hash of its bytes. It outlives its pages, so that what was paid stays paid."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+")
    digest = models.CharField(max_length=64, help_text="SHA-256 of its bytes, in hex.")
    engine = models.CharField(max_length=40, help_text="What found the sizes, and its version.")
    page_sizes = models.JSONField(default=list, help_text="Width and height of each page in points, as it is shown.")
    converted_at = models.DateTimeField(null=True, help_text="When its pages were first converted, which has a fee once.")
    used_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "digest"], name="document_is_one_per_digest"),
        ]

    def __str__(self) -> str:
        return self.digest[:12]


class Rendition(models.Model):
    """All pages of a document in one form, kept as one object; or the claim of the process that is making them."""

    class Form(models.TextChoices):
        TEXT = "text", "Text"
        IMAGES = "images", "Images"

    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="renditions")
    form = models.CharField(max_length=6, choices=Form.choices)
    engine = models.CharField(max_length=40)
    is_complete = models.BooleanField(default=False)
    lease_token = models.CharField(max_length=40, help_text="Who is converting, or did.")
    lease_expires_at = models.DateTimeField()
    object_name = models.CharField(max_length=200, help_text="In the storage; written down before the object is.")
    size_bytes = models.BigIntegerField(default=0)
    used_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["document", "form", "engine"], name="rendition_is_one_per_form"),
            models.CheckConstraint(condition=models.Q(form__in=["text", "images"]), name="rendition_form_is_known"),
            models.CheckConstraint(condition=models.Q(size_bytes__gte=0), name="rendition_size_is_not_negative"),
        ]

    def __str__(self) -> str:
        return self.object_name
