"""Statistics of paired, clustered and rated data, without a network."""
