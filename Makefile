# Placeholder until the bootstrap lands.
