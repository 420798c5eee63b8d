"""Who holds what: pairs divided among clients, frozen in a manifest."""
