"""The selection and order of trials. Imports trial."""
