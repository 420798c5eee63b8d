"""Labels of the tensors that server and clients exchange besides the trained ones.

Down: what a rule or a service broadcasts.  Up: a client's extras, of which the server asks for those that it reads.
"""

# down
BASIS, STRETCH = "canonical_basis", "canonical_stretch"  # V (I, I) and rho (), by weight's name
CONTROL = "control"  # SCAFFOLD's c, by tensor's name
DIRECTION = "global_direction"  # Delta_G, by tensor's name
MOMENTUM_CONTROL = "momentum_control"  # FedMuon's C (O, I), by weight's name

# up
GRAM, SECOND_MOMENT = "input_gram", "canonical_second_moment"  # C_k (I, I) and v_k (O, I), by weight's name
CONTROL_CHANGE = "control_change"  # by tensor's name
PATH = "path_length"  # the sum of a client's learning rates over its steps, {"rates": ()}
MOMENTUM_CHANGE = "momentum_control_change"  # by weight's name

# both ways: the clients' own, and their means
ADAM_SECOND, ADAM_AGE = "adam_second_moment", "adam_age"  # by tensor's name; {"steps": ()}
MUON_MOMENTUM = "muon_momentum"  # (O, I), by weight's name
OUTPUT_GRAM, INPUT_GRAM = "gradient_output_gram", "gradient_input_gram"  # SOAP's L (O, O) and R (I, I)
