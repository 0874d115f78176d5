"""The operator: one package, three processes: controller, admission, bundles."""
