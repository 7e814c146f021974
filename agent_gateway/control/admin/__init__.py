"""The admin API: one file a resource; its routes are one table, which the document and the tests read too."""
