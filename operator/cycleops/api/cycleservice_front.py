"""What a CycleService's own Service speaks, and to whom."""

from pydantic import Field

from cycleops.api.base import ApiModel, ObjectName


class Grpc(ApiModel):
    """Open Inference Protocol over gRPC, on a port of its own; answers are cached together with those over HTTP."""

    port: int = Field(9000, ge=1, le=65535, description="Port of the Service, beside HTTP's.")


class SecretReference(ApiModel):
    name: ObjectName = Field(description="Name of the Secret, in this namespace.")


class Tls(ApiModel):
    secret_ref: SecretReference = Field(description="Secret of type kubernetes.io/tls: tls.crt and tls.key.")


class Auth(ApiModel):
    api_key_secret_ref: SecretReference = Field(
        description="Secret whose key `keys` has lines of '<SHA-256 of an API key, hex> <tenant>'; only these get in."
    )
