"""Attribution methods: one module per family, one registry, one result type. Types import without torch."""
