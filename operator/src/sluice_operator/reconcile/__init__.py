"""Resources, pods and reports → bundles, statuses and events. Pure."""
