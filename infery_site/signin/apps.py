"""Makes the staff's own site the site of `django.contrib.admin`."""

from django.contrib.admin.apps import AdminConfig


class StaffAdminConfig(AdminConfig):
    default_site = "infery_site.signin.staff.StaffSite"
