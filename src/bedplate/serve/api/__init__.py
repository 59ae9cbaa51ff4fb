"""The API for people and for enrolment: endpoints as data, from which routes and the OpenAPI document are made."""
