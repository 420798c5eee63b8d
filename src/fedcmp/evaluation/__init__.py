"""How good a projector is: caption loss by group, answers to questions, sample captions."""
